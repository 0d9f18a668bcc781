"""Losses of the standard, whose classes are on axis 1."""

from keras import ops


def nll_loss(log_probs, target, weight=None, ignore_index=None, reduction="mean"):
    """The negative log of what each target's class is given; ``weight`` is by class."""
    kept = ops.ones_like(target, dtype="bool") if ignore_index is None else ops.not_equal(target, ignore_index)
    target = ops.where(kept, target, ops.zeros_like(target))
    picked = ops.take_along_axis(log_probs, ops.expand_dims(target, 1), axis=1)[:, 0]
    weights = ops.ones_like(picked) if weight is None else ops.take(weight, target, axis=0)
    weights = ops.where(kept, weights, ops.zeros_like(weights))
    losses = -picked * weights
    if reduction == "none":
        return losses
    return ops.sum(losses) if reduction == "sum" else ops.sum(losses) / ops.sum(weights)
