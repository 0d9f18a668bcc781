"""Losses that PyTorch computes by a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def own(loss: Any) -> Function | None:
    """PyTorch's function for a loss; None where it has none that computes the same."""
    if loss.reduction != "mean" or getattr(loss, "ignore_index", None) is not None:
        return None
    if getattr(loss, "class_weights", None) is not None:
        return None
    smoothing = getattr(loss, "label_smoothing", 0.0)
    match loss.op:
        case "SoftmaxCrossEntropyLoss":
            return lambda x, t: F.cross_entropy(x, t, label_smoothing=smoothing)
        case "SparseCategoricalCrossentropy" if loss.reads_logits:
            return lambda x, t: F.cross_entropy(x.flatten(0, -2), t.flatten(), label_smoothing=smoothing)
        case "CategoricalCrossentropy" if loss.reads_logits:
            return lambda x, t: F.cross_entropy(x.flatten(0, -2), t.flatten(0, -2), label_smoothing=smoothing)
        case "BinaryCrossentropy" if loss.reads_logits and not smoothing and loss.pos_weight is None:
            return F.binary_cross_entropy_with_logits
        case "MeanSquaredError":
            return F.mse_loss
        case "MeanAbsoluteError":
            return F.l1_loss
        case "Huber":
            return lambda x, t: F.huber_loss(x, t, delta=loss.delta)
    return None
