"""Losses of the standard, by a helper over arrays."""

from __future__ import annotations

from typing import Any

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call, code

losses = Family()


@losses("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(op: Op, arrays: ArrayDialect, value: Code | None = None) -> Emit | Code:
    """The loss, and the logarithms of the probabilities where they are read; ``value`` is the loss, if it is known."""
    from_logits = op.key == "SoftmaxCrossEntropyLoss"
    logarithms: Any = arrays.call("log_softmax", op.x, axis=1) if from_logits else op.x
    if value is None:
        reduction = op.attr("reduction")
        keywords = {"weight": op[2] if op.has(2) else None, "ignore_index": op.attr("ignore_index")}
        value = call("nll_loss", logarithms, op[1], **keywords, reduction=None if reduction == "mean" else reduction)
    if len(op.node.outputs) == 2 and op.used(1):
        return code("{}, {}", value, logarithms)
    return Emit(value, targets=None if len(op.node.outputs) == 1 else "{0}")
