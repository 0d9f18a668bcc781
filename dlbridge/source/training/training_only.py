"""Layers that act in training alone: what the frameworks' rules for dropout and noise share."""

from __future__ import annotations

from collections.abc import Callable

from dlbridge.ops.extension import DOMAIN
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op, Rules
from dlbridge.source.tree.code import Code, call, code


def in_training(op: Op, new: Code) -> Emit | Code:
    """A call of a layer that acts in training alone; nothing in a function, where no layer can live."""
    if op.functional:
        return code("{}", op.x)
    return Emit(call(LAYER, op.x), Layer(new), targets=None if len(op.node.outputs) == 1 else "{0}")


def without_mask(op: Op, dropout: Callable[[float], Code], ones: Code, whose: str) -> Emit | Code:
    """Dropout of a framework whose layer does not give its mask.

    Args:
        op: The node.
        dropout: Makes the layer of a rate.
        ones: A mask that keeps everything.
        whose: The framework, for messages.
    """
    ratio = op.scalar(1) if op.has(1) else 0.5
    if op.used(1):
        if ratio != 0 and op.has(2) and op.scalar(2) is not False and op.scalar(2) != 0:
            op.refuse(f"{whose} dropout does not give its mask")
        return code("{}, {}", op.x, ones)
    if ratio is None:
        return code("{}", op.x)  # a layer's rate is a number: what computes its own is left in inference form
    return in_training(op, dropout(ratio))


def gaussian(rules: Rules, layer: Callable[[str, str, float], Code]) -> None:
    """Register the rules of Gaussian noise; ``layer`` makes one of its class, the name of its number, and that."""
    for op_type, attribute in (("GaussianDropout", "ratio"), ("GaussianNoise", "stddev")):

        @rules(op_type, domain=DOMAIN)
        def noise(op: Op, attribute: str = attribute) -> Emit | Code:
            return in_training(op, layer(op.key, attribute, op.attr(attribute)))
