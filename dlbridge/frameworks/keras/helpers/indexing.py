"""Picking elements."""

from keras import ops


def top_k(x, k, axis, largest):
    """The k largest (or smallest) along an axis, in order, and their places."""
    x = ops.moveaxis(x, axis, -1)
    values, places = ops.top_k(x if largest else -x, k)
    values = values if largest else -values
    return ops.moveaxis(values, -1, axis), ops.cast(ops.moveaxis(places, -1, axis), "int64")
