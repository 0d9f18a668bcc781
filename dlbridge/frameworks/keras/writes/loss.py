"""Losses of the standard."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, Raw, call, code
from dlbridge.source.names import quoted
from dlbridge.source.op import Emit, Op

_REDUCED = {"mean": "ops.mean({})", "sum": "ops.sum({})", "none": "{}"}


@rules("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(op: Op) -> Emit | Code:
    from_logits = op.key == "SoftmaxCrossEntropyLoss"
    ignored, reduction = op.attr("ignore_index"), op.attr("reduction")
    probabilities: Any = call("ops.log_softmax", op.x, axis=1) if from_logits else op.x
    if from_logits and op.rank() == 2 and not op.has(2) and ignored is None:
        each = call("keras.losses.sparse_categorical_crossentropy", op[1], op.x, from_logits=True)
        value = code(_REDUCED[reduction], each)
    else:
        keywords: dict[str, Any] = {"weight": op[2]} if op.has(2) else {}
        keywords |= {} if ignored is None else {"ignore_index": ignored}
        keywords |= {} if reduction == "mean" else {"reduction": Raw(quoted(reduction))}
        value = call("nll_loss", probabilities, op[1], **keywords)
    if len(op.node.outputs) == 2 and op.used(1):
        return code("{}, {}", value, probabilities)
    return Emit(value, targets=None if len(op.node.outputs) == 1 else "{0}")
