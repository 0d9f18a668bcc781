"""Losses of the standard."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Op


@rules("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(op: Op) -> Emit | Code:
    ignored, reduction = op.attr("ignore_index"), op.attr("reduction")
    from_logits = op.key == "SoftmaxCrossEntropyLoss"
    probabilities: Any = call("nnx.log_softmax", op.x, axis=1) if from_logits else op.x
    keywords: dict[str, Any] = {"weight": op[2]} if op.has(2) else {}
    keywords |= {} if ignored is None else {"ignore_index": ignored}
    keywords |= {} if reduction == "mean" else {"reduction": reduction}
    value = call("nll_loss", probabilities, op[1], **keywords)
    if len(op.node.outputs) == 2 and op.used(1):
        return code("{}, {}", value, probabilities)
    return Emit(value, targets=None if len(op.node.outputs) == 1 else "{0}")
