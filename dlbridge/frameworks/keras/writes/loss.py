"""Losses of the standard."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


@rules("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(op: Op) -> Code:
    from_logits = op.node.op_type == "SoftmaxCrossEntropyLoss"
    log_probs: Any = call("ops.log_softmax", op.x, axis=1) if from_logits else op.x
    reduction = op.attr("reduction")
    value = call(
        "nll_loss",
        log_probs,
        op[1],
        weight=op[2] if op.has(2) else None,
        ignore_index=op.attr("ignore_index"),
        reduction=reduction if reduction != "mean" else None,
    )
    return code("{}, {}", value, log_probs) if len(op.node.outputs) == 2 else value
