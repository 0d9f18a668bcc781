"""Layers that multiply by a matrix: Linear, Embedding, MatMul, Gemm, Einsum."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import RNGS, param_dtype, rules
from dlbridge.source.arrays.indexing import padded
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code


@rules("Linear", domain="dlbridge")
def linear(op: Op) -> Emit | Code:
    weights = op.kernel_and_bias(("transpose", (1, 0)))
    if weights is None:
        product = code("{} @ {}.T", op[0], op[1])
        return code("{} + {}", product, op[2]) if op.has(2) else product
    out_features, in_features = op.shape(1) or []
    sizes = Literal(in_features, "in_features"), Literal(out_features, "out_features")
    keywords = {"use_bias": None if "bias" in weights else False, "param_dtype": param_dtype(op, 1), "rngs": RNGS}
    return Emit(call(LAYER, op.x), Layer(call("nnx.Linear", *sizes, **keywords), weights))


@rules("Embedding", domain="dlbridge")
def embedding(op: Op) -> Emit | Code:
    weight = op.weight(1)
    if weight is None:
        return padded(op, call("jnp.take", op[1], op[0], axis=0))
    count, size = op.shape(1) or []
    sizes = Literal(count, "num_embeddings"), Literal(size, "features")
    new = call("nnx.Embed", *sizes, param_dtype=param_dtype(op, 1), rngs=RNGS)
    return Emit(padded(op, call(LAYER, op.x)), Layer(new, {"embedding": weight}))
