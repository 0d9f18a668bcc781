"""Losses of the standard: Keras' own function where it computes them, else the helper."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.frameworks.keras.writes.arrays import KERAS
from dlbridge.source.arrays.loss import loss
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call, code

_REDUCED = {"mean": "ops.mean({})", "sum": "ops.sum({})", "none": "{}"}


@rules("SoftmaxCrossEntropyLoss")
def cross_entropy(op: Op) -> Emit | Code:
    if op.rank() != 2 or op.has(2) or op.attr("ignore_index") is not None:
        return loss(op, KERAS)
    each = call("keras.losses.sparse_categorical_crossentropy", op[1], op.x, from_logits=True)
    return loss(op, KERAS, code(_REDUCED[op.attr("reduction")], each))
