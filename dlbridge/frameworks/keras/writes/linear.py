"""Layers that multiply by a matrix: Linear, Embedding, MatMul, Gemm, Einsum."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op


@rules("Linear", domain="dlbridge")
def linear(op: Op) -> Emit | Code:
    weight, bias = op.weight(1, ("transpose", (1, 0))), op.weight(2)
    if weight is None or (op.has(2) and bias is None):
        product = code("ops.matmul({}, ops.transpose({}))", op[0], op[1])
        return code("{} + {}", product, op[2]) if op.has(2) else product
    units = op.shape(1)[0]  # type: ignore[index]
    weights = {"kernel": weight} | ({"bias": bias} if bias else {})
    extra = (f', activation="{op.activation}"' if op.activation else "") + ("" if bias else ", use_bias=False")
    return Emit(call(LAYER, op.x), Layer(code(f"layers.Dense({{units}}{extra})", units=units), weights))
