"""Layers that multiply by a matrix: Linear, Embedding, MatMul, Gemm, Einsum."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.weights import Weight


@rules("Linear", domain="dlbridge")
def linear(op: Op) -> Emit | Code:
    weight, bias = op.initializer(1), op.initializer(2)
    if weight is None or (op.has(2) and bias is None):
        return call("F.linear", *op.tensors)
    out_features, in_features = op.shape(1) or []
    extra = "" if bias else ", bias=False"
    new = code(
        f"nn.Linear({{in_features}}, {{out_features}}{extra})", in_features=in_features, out_features=out_features
    )
    weights = {"weight": Weight.of(weight)} | ({"bias": Weight.of(bias)} if bias else {})
    return Emit(call(LAYER, op.x), Layer(new, weights))
