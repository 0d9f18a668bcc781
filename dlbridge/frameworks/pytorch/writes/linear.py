"""Layers that multiply by a matrix: Linear, Embedding, MatMul, Gemm, Einsum."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.ops import traits
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code
from dlbridge.source.weights import Weight

#: Whether a matrix is held transposed -> how it is made of the initializer.
TRANSPOSE: dict[bool, tuple[tuple, ...]] = {False: (), True: (("transpose", (1, 0)),)}


@rules("Linear", domain="dlbridge")
def linear(op: Op) -> Emit | Code:
    weight, bias = op.initializer(1), op.initializer(2)
    transposed = traits.is_transposed(op.value(1))
    if weight is None or (op.has(2) and bias is None):
        if transposed:
            return code("{} @ {} + {}", *op.tensors) if op.has(2) else code("{} @ {}", *op.tensors)
        return call("F.linear", *op.tensors)
    out_features, in_features = op.shape(1) or []
    kind, extra = "TransposedLinear" if transposed else "nn.Linear", "" if bias else ", bias=False"
    new = code(f"{kind}({{in_features}}, {{out_features}}{extra})", in_features=in_features, out_features=out_features)
    weights = {"weight": Weight.of(weight, *TRANSPOSE[transposed])} | ({"bias": Weight.of(bias)} if bias else {})
    return Emit(call(LAYER, op.x), Layer(new, weights))


@rules("Embedding", domain="dlbridge")
def embedding(op: Op) -> Emit | Code:
    weight, padding = op.initializer(1), op.attr("padding_idx")
    keywords = {} if padding < 0 else {"padding_idx": padding}
    if weight is None:
        return call("F.embedding", op.x, op[1], **keywords)
    count, size = op.shape(1) or []
    sizes = Literal(count, "num_embeddings"), Literal(size, "embedding_dim")
    return Emit(call(LAYER, op.x), Layer(call("nn.Embedding", *sizes, **keywords), {"weight": Weight.of(weight)}))
