"""Random numbers: of a key of the node's seed, where it has one, else of a new key each time."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import NNX, rules
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


def _key(op: Op) -> Code:
    seed = op.attr("seed")
    return call("random_key", *([] if seed is None else [int(seed)]))


@rules("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
def random(op: Op) -> Code:
    shape = tuple(op.sizes() if op.key.endswith("Like") else op.attr("shape"))
    dtype = NNX.dtype(op, op.out_dtype())
    if "Uniform" in op.key:
        limits: dict[str, Any] = {"minval": (op.attr("low"), 0.0), "maxval": (op.attr("high"), 1.0)}
        given = {name: value for name, (value, usual) in limits.items() if value != usual}
        return call("jax.random.uniform", _key(op), shape, dtype, **given)
    drawn = call("jax.random.normal", _key(op), shape, dtype)
    drawn = drawn if op.attr("scale") == 1 else code("{scale} * {}", drawn, scale=op.attr("scale"))
    return drawn if op.attr("mean") == 0 else code("{mean} + {}", drawn, mean=op.attr("mean"))


@rules("Bernoulli")
def bernoulli(op: Op) -> Code:
    return NNX.in_dtype(op, call("jax.random.bernoulli", _key(op), op.x))


@rules("Multinomial")
def multinomial(op: Op) -> Code:
    shape = (op.attr("sample_size"), op.dim(0, 0))
    drawn = call("jax.random.categorical", _key(op), op.x, shape=shape)
    return NNX.in_dtype(op, code("{}.T", drawn))
