"""Losses that Keras computes by a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from keras import ops

from dlbridge.frameworks.keras.training import functions
from dlbridge.ops.keys import layer_key


def reads_behind(loss: Any, output: ir.Value) -> bool:
    """Whether Keras' own loss would be computed of what a last Softmax or Sigmoid is given, and be another number.

    It is, of logits, where the loss takes the output for logits, and where it is that of the other of the two.
    """
    node = output.producer()
    if node is None:
        return False
    fused = node.attributes.get("activation")
    name = layer_key(node) if fused is None else fused.as_string().title()
    takes_logits = loss.reads_logits or (loss.ending is not None and name != loss.ending)
    return name in ("Softmax", "Sigmoid") and takes_logits


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
            return loss.value(x, t, None, functions)
        # of what a Softmax returns Keras would take what it is given; it does not look behind a reshape
        rows = ops.reshape(x, (-1, ops.shape(x)[-1]))
        return ops.mean(ops.sparse_categorical_crossentropy(ops.reshape(t, (-1,)), rows, from_logits=True))

    return value
