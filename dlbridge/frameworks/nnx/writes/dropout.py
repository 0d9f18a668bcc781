"""Layers that act in training alone."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import RNGS, rules
from dlbridge.ops.extension import DOMAIN, shared_axes
from dlbridge.source.code import Code, Literal, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    ratio = op.scalar(1) if op.has(1) else 0.5
    if op.used(1):
        if ratio != 0 and op.has(2) and op.scalar(2) is not False and op.scalar(2) != 0:
            op.refuse("Flax's dropout does not give its mask")
        return code("{}, {}", op.x, call("jnp.ones_like", op.x, dtype=code("bool")))
    if ratio is None:
        return code("{}", op.x)  # a layer's rate is a number: what computes its own is left in inference form
    return _layer(op, "nnx.Dropout", ratio)


def _layer(op: Op, kind: str, rate: float, dims: tuple[int, ...] | None = None) -> Emit | Code:
    """A call of a layer; nothing in a function, where no layer can live."""
    if op.functional:
        return code("{}", op.x)
    new = call(kind, Literal(rate, "rate"), broadcast_dims=dims, rngs=RNGS)
    return Emit(call(LAYER, op.x), Layer(new), targets=None if len(op.node.outputs) == 1 else "{0}")


@rules("BroadcastDropout", "AlphaDropout", domain=DOMAIN)
def broadcast_dropout(op: Op) -> Emit | Code:
    kind = "nnx.Dropout" if op.key == "BroadcastDropout" else "AlphaDropout"
    return _layer(op, kind, op.attr("ratio"), tuple(shared_axes(op.node)) or None)


@rules("GaussianDropout", domain=DOMAIN)
def gaussian_dropout(op: Op) -> Emit | Code:
    return _layer(op, "GaussianDropout", op.attr("ratio"))


@rules("GaussianNoise", domain=DOMAIN)
def gaussian_noise(op: Op) -> Emit | Code:
    return _layer(op, "GaussianNoise", op.attr("stddev"))


@rules("Augmentation", domain=DOMAIN)
def augmentation(op: Op) -> Code:
    """In JAX images are augmented where data are loaded, not in the model."""
    return code("{}", op.x)
