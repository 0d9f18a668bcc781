"""Helpers of losses."""

from dlbridge.source.arrays import ops


def nll_loss(log_probabilities, target, weight=None, ignore_index=None, reduction="mean"):
    """Minus the log probability (batch, classes, ...) of the right class, weighted by class."""
    kept = ops.ones_like(target, dtype="bool") if ignore_index is None else ops.not_equal(target, ignore_index)
    target = ops.where(kept, target, ops.zeros_like(target))
    losses = -ops.squeeze(ops.take_along_axis(log_probabilities, ops.expand_dims(target, 1), axis=1), 1)
    weights = ops.ones_like(losses) if weight is None else ops.take(weight, target, axis=0)
    weights = ops.where(kept, weights, ops.zeros_like(weights))
    losses = losses * weights
    if reduction == "none":
        return losses
    return ops.sum(losses) / ops.sum(weights) if reduction == "mean" else ops.sum(losses)
