"""Poolings that Keras has no function for."""

import math

from dlbridge.source.arrays import ops
from dlbridge.source.arrays.helpers.shape import smaller_size


def window_stack(x, size, strides, dilations):
    """The elements of every window of x (batch, ..., channels), on a new first axis."""
    places = [()]
    for k in size:
        places = [(*place, at) for place in places for at in range(k)]
    parts = []
    for place in places:
        cut = [slice(None)]
        for at, k, stride, dilation in zip(place, size, strides, dilations, strict=True):
            cut.append(slice(at * dilation, (at - k + 1) * dilation or None, stride))
        parts.append(x[tuple(cut)])
    return ops.stack(parts)


def average_pool(x, size, strides, counted, uncounted, dilations=None):
    """The mean over windows; ``uncounted`` pads do not count."""

    def mean(y):
        return (
            ops.mean(window_stack(y, size, strides, dilations), 0) if dilations else ops.average_pool(y, size, strides)
        )

    x = ops.pad(x, counted)
    ones = ops.pad(ops.ones_like(x), uncounted)
    return mean(ops.pad(x, uncounted)) / mean(ones)


def average_pool_same(x, size, strides, dilations, upper=False, counted=False):
    """The mean over ceil(length / stride) windows; whether the pads count."""

    def mean(y):
        return ops.mean(window_stack(pad_same(y, size, strides, dilations, upper), size, strides, dilations), 0)

    return mean(x) if counted else mean(x) / mean(ops.ones_like(x))


def fill_windows(x, size, strides, dilations, after, value=0.0):
    """x (batch, ..., channels) with more behind, so that every window which begins before its last pads is whole.

    ``after`` counts the pads that stand at the end of each axis already.
    """
    more, cut = [(0, 0)], [slice(None)]
    for axis, (k, stride, dilation, pad) in enumerate(zip(size, strides, dilations, after, strict=True), 1):
        length, span = ops.shape(x)[axis], (k - 1) * dilation + 1
        count = smaller_size(-(-(length - span) // stride) + 1, -(-(length - pad) // stride))
        more.append((0, stride - 1))
        cut.append(slice((count - 1) * stride + span))
    return ops.pad(x, [*more, (0, 0)], constant_values=value)[tuple(cut)]


def average_pool_ceil(x, size, strides, dilations, after, pads=None, counted=False):
    """The mean over windows, the last of which may reach over the end; whether the pads count."""

    def mean(y):
        y = fill_windows(y, size, strides, dilations, after)
        return ops.mean(window_stack(y, size, strides, dilations), 0)

    ones = ops.ones_like(x)
    if pads:
        x, ones = ops.pad(x, pads), ops.pad(ones, pads, constant_values=1.0 if counted else 0.0)
    return mean(x) / mean(ones)


def lp_pool(x, p, size, strides, dilations=None):
    """The p-norm over windows."""
    powers = ops.power(ops.abs(x), p)
    if dilations:
        return ops.power(ops.sum(window_stack(powers, size, strides, dilations), 0), 1 / p)
    return ops.power(ops.average_pool(powers, size, strides) * math.prod(size), 1 / p)


def max_pool_with_indices(x, size, strides, dilations, pads, column_major=False):
    """Max pooling of x (batch, channels, ...), and where in the whole of x each maximum is."""
    order = (0, *range(2, len(x.shape)), 1)
    back = (0, len(x.shape) - 1, *range(1, len(x.shape) - 1))
    sizes = x.shape[2:]
    places = ops.reshape(ops.arange(math.prod(sizes), dtype="int64"), sizes[::-1] if column_major else sizes)
    places = ops.reshape(ops.transpose(places) if column_major else places, (1, *sizes, 1))
    lowest = ops.pad(ops.transpose(x, order), pads, constant_values=float("-inf"))
    stack = window_stack(lowest, size, strides, dilations)
    at = ops.expand_dims(ops.argmax(stack, axis=0), 0)
    inner = window_stack(ops.pad(places, pads), size, strides, dilations)
    index = ops.take_along_axis(ops.broadcast_to(inner, ops.shape(stack)), at, axis=0)[0]
    index = ops.transpose(index, back)
    planes = ops.arange(ops.shape(x)[0] * x.shape[1], dtype="int64") * math.prod(sizes)
    return ops.transpose(ops.max(stack, axis=0), back), index + ops.reshape(planes, (-1, x.shape[1], *[1] * len(sizes)))


def pad_same(x, size, strides, dilations, upper=False, value=0.0):
    """Pads x (batch, ..., channels) to ceil(length / stride) windows; an odd pad is at the beginning, or the end."""
    cut, most = [slice(None)], [(k - 1) * d for k, d in zip(size, dilations, strict=True)]
    for axis, (stride, span) in enumerate(zip(strides, most, strict=True), 1):
        length = ops.shape(x)[axis]
        total = (-(-length // stride) - 1) * stride + span + 1 - length
        total = max(total, 0) if isinstance(total, int) else ops.maximum(total, 0)
        before = total // 2 if upper else total - total // 2
        cut.append(slice(span - before, span + length + total - before))
    return ops.pad(x, [(0, 0), *((m, m) for m in most), (0, 0)], constant_values=value)[tuple(cut)]


def max_unpool(x, indices, size, strides, pads, output_shape=None):
    """Puts each element where it was the maximum; zeros elsewhere. Indices count through the whole unpooled tensor."""
    count = len(size)
    sizes = [(x.shape[2 + i] - 1) * strides[i] - pads[i] - pads[count + i] + size[i] for i in range(count)]
    shape = [*ops.shape(x)[:2], *sizes]
    flat = ops.reshape(ops.zeros(shape, dtype=x.dtype), (-1,))
    y = ops.scatter_update(flat, ops.reshape(indices, (-1, 1)), ops.reshape(x, (-1,)))
    y = ops.reshape(y, shape)
    if output_shape is None:
        return y
    return ops.pad(y, [(0, new - old) for old, new in zip(shape, output_shape, strict=True)])
