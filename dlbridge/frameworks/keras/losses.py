"""Losses that Keras computes by a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from dlbridge.frameworks.keras import training_ops


def own(loss: Any) -> Callable[[Any, Any], Any] | None:
    """Keras' function for a loss; None where it has none that computes the same."""
    if loss.op not in ("SparseCategoricalCrossentropy", "SoftmaxCrossEntropyLoss"):
        return None
    if loss.reduction != "mean" or not loss.reads_logits:
        return None
    if loss.ignore_index is not None or loss.class_weights is not None or loss.label_smoothing:
        return None

    def value(x: Any, t: Any) -> Any:
        is_on_last_axis = loss.class_axis == -1 or len(x.shape) == 2
        if not is_on_last_axis or len(t.shape) == len(x.shape):
            return loss.value(x, t, None, training_ops)
        return ops.mean(ops.sparse_categorical_crossentropy(t, x, from_logits=True))

    return value
