"""Helpers that rearrange, cut and join tensors."""

from dlbridge.source.arrays import ops


def to_list(x):
    """The numbers in a tensor; they must be known, as they are when code runs eagerly."""
    return ops.convert_to_numpy(x).tolist()


def larger_size(a, b):
    """The larger of two sizes: numbers, or tensors where a backend does not know them before it runs."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else ops.maximum(a, b)


def smaller_size(a, b):
    """The smaller of two sizes: numbers, or tensors where a backend does not know them before it runs."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else ops.minimum(a, b)


def truncated_size(a, b):
    """A size, or a difference of sizes, divided and truncated; // would round a negative one down."""
    return larger_size(a, 0) // b - larger_size(-a, 0) // b


def reshape(x, shape, allow_zero=False):
    """x in a new shape, in which 0 stands for the size that x has there."""
    if not allow_zero:
        shape = [ops.shape(x)[i] if size == 0 else size for i, size in enumerate(shape)]
    return ops.reshape(x, shape)


def split_sizes(x, sizes, axis=0):
    """x in parts of these sizes."""
    parts, start = [], 0
    for size in sizes:  # ops.split wants to know the size of the axis
        parts.append(x[(slice(None),) * (axis % len(x.shape)) + (slice(start, start + size),)])
        start = start + size
    return parts


def split_evenly(x, count, axis=0):
    """x in count parts of one size; the last is smaller when that does not divide."""
    size = ops.shape(x)[axis]
    part = -(-size // count)
    x = ops.moveaxis(x, axis, 0)
    return tuple(ops.moveaxis(x[i * part : (i + 1) * part], 0, axis) for i in range(count))


def slice_(x, starts, ends, axes=None, steps=None):
    """x[start:end:step] along each axis, where steps may be negative."""
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        start, end, step = slice(start, end, step).indices(size)
        chosen = list(range(start, end, step))
        x = ops.take(x, ops.convert_to_tensor(chosen, dtype="int32"), axis=axis)
    return x


def pad(x, pads, mode="constant", value=0, axes=None):
    """Pads (or, where negative, crops) the axes: all begins, then all ends. Modes: constant, reflect, edge, wrap."""
    axes = range(len(x.shape)) if axes is None else axes
    for i, axis in enumerate(axes):
        before, after, size = pads[i], pads[i + len(pads) // 2], ops.shape(x)[axis]
        x = ops.moveaxis(x, axis, 0)
        if mode == "constant":
            x = x[larger_size(-before, 0) : size + smaller_size(after, 0)]
            pairs = [(larger_size(before, 0), larger_size(after, 0))] + [(0, 0)] * (len(x.shape) - 1)
            x = ops.pad(x, pairs, constant_values=value)
        else:
            at = ops.arange(-before, size + after, dtype="int32")
            if mode == "edge":
                at = ops.clip(at, 0, size - 1)
            elif mode == "wrap":
                low, high = larger_size(-before, 0), size + smaller_size(after, 0)
                at = low + ops.mod(at - low, high - low)
            else:
                period = ops.maximum(2 * (size - 1), 1)
                at = (size - 1) - ops.abs(ops.mod(at, period) - (size - 1))
            x = ops.take(x, at, axis=0)
        x = ops.moveaxis(x, 0, axis)
    return x


def center_crop_pad(x, shape, axes=None):
    """Crops or pads with zeros around the middle, to the given sizes."""
    for axis, size in zip(range(len(x.shape)) if axes is None else axes, shape, strict=True):
        x = ops.moveaxis(x, axis, 0)
        more = size - ops.shape(x)[0]
        start = -more // 2 if more < 0 else 0
        x = x[start : start + size]
        before = more // 2 if more > 0 else 0
        after = more - before if more > 0 else 0
        x = ops.pad(x, [(before, after)] + [(0, 0)] * (len(x.shape) - 1))
        x = ops.moveaxis(x, 0, axis)
    return x


def depth_to_space(x, size, height, width, blocks_first=True, channels=None):
    """Blocks of channels of (batch, height, width, channels) become squares of pixels.

    The channels of a block lie apart; side by side, when ``blocks_first`` is not set.
    """
    channels = (x.shape[-1] if channels is None else channels) // size**2
    parts = (size, size, channels) if blocks_first else (channels, size, size)
    x = ops.reshape(x, (-1, height, width, *parts))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5) if blocks_first else (0, 1, 4, 2, 5, 3))
    return ops.reshape(x, (-1, height * size, width * size, channels))


def space_to_depth(x, size, height, width, blocks_first=True, channels=None):
    """Squares of pixels of (batch, height, width, channels) become blocks of channels, as in ``depth_to_space``."""
    channels = x.shape[-1] if channels is None else channels
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5) if blocks_first else (0, 1, 3, 5, 2, 4))
    return ops.reshape(x, (-1, height // size, width // size, channels * size**2))


def diagonal_of_ones(rows, columns, k, dtype="float32"):
    """A matrix that is 1 on diagonal k and 0 elsewhere."""
    behind = ops.arange(columns, dtype="int32") - ops.reshape(ops.arange(rows, dtype="int32"), (-1, 1))
    return ops.cast(ops.equal(behind, k), dtype)


def triangle(x, k, upper=False):
    """The elements on and below (or above) the diagonal k, which may lie outside of x; zeros for the others."""
    rows, columns = ops.shape(x)[-2], ops.shape(x)[-1]
    behind = ops.arange(columns, dtype="int32") - ops.reshape(ops.arange(rows, dtype="int32"), (-1, 1))
    return ops.where(behind >= k if upper else behind <= k, x, ops.zeros_like(x))
