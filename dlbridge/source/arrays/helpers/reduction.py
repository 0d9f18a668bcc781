"""Helpers that order and sum."""

from dlbridge.source.arrays import ops


def top_k(x, k, axis=-1, largest=True):
    """The k largest (or smallest) along an axis, in order, and their places; of equal ones the first comes first."""
    x = ops.moveaxis(x, axis, -1)
    is_integer = "int" in ops.standardize_dtype(x.dtype)

    def reverse(values):
        return values if largest else ops.bitwise_not(values) if is_integer else -values

    # 0 and -0 are equal, but XLA puts one before the other
    unsigned = x if is_integer else ops.where(x == 0, ops.zeros_like(x), x)
    _, places = ops.top_k(reverse(unsigned), k)
    values = ops.take_along_axis(reverse(x), places, axis=-1)
    return ops.moveaxis(reverse(values), -1, axis), ops.cast(ops.moveaxis(places, -1, axis), "int64")


def cumulative(function, x, axis, exclusive=False, reverse=False):
    """ops.cumsum or ops.cumprod along an axis, without the element itself (exclusive), from the end (reverse)."""
    x = ops.moveaxis(x, axis, -1)
    x = ops.flip(x, axis=-1) if reverse else x
    if exclusive:
        first = ops.zeros_like(x[..., :1]) if function is ops.cumsum else ops.ones_like(x[..., :1])
        x = ops.concatenate([first, x[..., :-1]], axis=-1)
    x = function(x, axis=-1)
    return ops.moveaxis(ops.flip(x, axis=-1) if reverse else x, -1, axis)
