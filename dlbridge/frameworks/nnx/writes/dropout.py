"""Layers that act in training alone."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import RNGS, rules
from dlbridge.ops.extension import DOMAIN, shared_axes
from dlbridge.source.op import Emit, Op
from dlbridge.source.training.training_only import gaussian, in_training, without_mask
from dlbridge.source.tree.code import Code, Literal, call, code


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    ones = call("jnp.ones_like", op.x, dtype=code("bool"))
    return without_mask(op, lambda ratio: _new("nnx.Dropout", ratio), ones, "Flax's")


def _new(kind: str, rate: float, dims: tuple[int, ...] | None = None) -> Code:
    return call(kind, Literal(rate, "rate"), broadcast_dims=dims, rngs=RNGS)


@rules("BroadcastDropout", "AlphaDropout", domain=DOMAIN)
def broadcast_dropout(op: Op) -> Emit | Code:
    kind = "nnx.Dropout" if op.key == "BroadcastDropout" else "AlphaDropout"
    return in_training(op, _new(kind, op.attr("ratio"), tuple(shared_axes(op.node)) or None))


gaussian(rules, lambda kind, what, number: _new(kind, number))


@rules("Augmentation", domain=DOMAIN)
def augmentation(op: Op) -> Code:
    """In JAX images are augmented where data are loaded, not in the model."""
    return code("{}", op.x)
