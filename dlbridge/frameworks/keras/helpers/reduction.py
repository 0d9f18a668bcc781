"""Sums along an axis."""

from keras import ops


def cumsum(x, axis, exclusive, reverse):
    """The running sum along an axis, without the element itself or from the end."""
    x = ops.flip(x, axis) if reverse else x
    y = ops.cumsum(x, axis) - x if exclusive else ops.cumsum(x, axis)
    return ops.flip(y, axis) if reverse else y
