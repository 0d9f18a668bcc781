"""Helpers that read and write elements by index."""

from dlbridge.source.arrays import ops


def wrapped(indices, size):
    """Indices, the negative ones counted from the end."""
    return ops.where(indices < 0, indices + ops.number(size, indices.dtype), indices)


def flat_places(indices, sizes):
    """The places that the last axis of the indices names, in a tensor whose axes of these sizes are one."""
    places = 0
    for axis, size in enumerate(sizes):
        places = places * ops.cast(size, indices.dtype) + wrapped(indices[..., axis], size)
    return places


def without_padding(rows, indices, padding):
    """Rows of a table that were looked up; the row of the padding gets no gradient."""
    is_padding = ops.expand_dims(ops.equal(indices, padding), -1)
    return ops.where(is_padding, ops.stop_gradient(rows), rows)


def gather_elements(x, indices, axis):
    """Elements of x along an axis, of as much of its other axes as there are indices."""
    other = [slice(0, size) for size in ops.shape(indices)]
    other[axis] = slice(None)
    return ops.take_along_axis(x[tuple(other)], indices, axis=axis)


def gather_nd(x, indices, batch_dims=0):
    """x at the places that the rows of indices name, for each batch."""
    depth, sizes = indices.shape[-1], ops.shape(x)
    rows = ops.reshape(x, (-1, *sizes[batch_dims + depth :]))
    places = flat_places(indices, sizes[batch_dims : batch_dims + depth])
    room = 1
    for size in sizes[batch_dims : batch_dims + depth]:
        room = room * size
    for axis in reversed(range(batch_dims)):
        start = ops.cast(ops.arange(sizes[axis]) * room, places.dtype)
        places = places + ops.reshape(start, (-1, *[1] * (len(places.shape) - axis - 1)))
        room = room * sizes[axis]
    return ops.take(rows, places, axis=0)


def scatter_nd(x, indices, updates, reduction=None):
    """x with updates put (or reduced: add, mul, max, min) at the places that the rows of indices name."""
    depth, sizes = indices.shape[-1], ops.shape(x)
    rows = [wrapped(indices[..., axis], sizes[axis]) for axis in range(depth)]
    at = ops.reshape(ops.stack(rows, axis=-1), (-1, depth))
    updates = ops.reshape(updates, (-1, *sizes[depth:]))
    return ops.scatter_update(x, at, updates, reduction=reduction)


def scatter_elements(x, indices, updates, axis=0, reduction=None):
    """x with each update put (or reduced) where its place is, but for the place along the axis, which is its index."""
    rank, sizes = len(x.shape), ops.shape(indices)
    at = []
    for i in range(rank):
        places = ops.reshape(ops.arange(sizes[i], dtype="int32"), [-1 if j == i else 1 for j in range(rank)])
        places = ops.cast(wrapped(indices, ops.shape(x)[axis]), "int32") if i == axis else places
        at.append(ops.reshape(ops.broadcast_to(places, sizes), (-1,)))
    return ops.scatter_update(x, ops.stack(at, axis=-1), ops.reshape(updates, (-1,)), reduction=reduction)


def tensor_scatter(cache, update, starts=None, axis=-2, circular=False):
    """cache with update written along an axis, from its batch's start on (around the end, when circular)."""
    cache, update = ops.moveaxis(cache, axis, 1), ops.moveaxis(update, axis, 1)
    batch, length, size = ops.shape(update)[0], ops.shape(update)[1], ops.shape(cache)[1]
    at = ops.broadcast_to(ops.arange(length, dtype="int32"), (batch, length))
    at = at if starts is None else at + ops.cast(ops.reshape(starts, (-1, 1)), "int32")
    at = ops.mod(at, size) if circular else at
    which = ops.broadcast_to(ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1)), (batch, length))
    places = ops.stack([ops.reshape(which, (-1,)), ops.reshape(at, (-1,))], axis=-1)
    rows = ops.reshape(update, (-1, *ops.shape(update)[2:]))
    return ops.moveaxis(ops.scatter_update(cache, places, rows), 1, axis)


def one_hot(indices, depth, values, axis=-1):
    """values[1] where the index is the place along a new axis, else values[0]; out of range, values[0]."""
    rank = len(indices.shape) + 1
    places = ops.reshape(ops.places(depth, indices), (-1, *[1] * (rank - 1 - axis % rank)))
    indices = ops.expand_dims(wrapped(ops.cast(indices, "int64"), depth), axis)
    return ops.where(ops.equal(indices, places), values[1], values[0])


def compress(x, condition, axis=None):
    """The slices along an axis (or elements) where the condition holds."""
    x, axis = (ops.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    return ops.take(x, ops.nonzero(condition)[0], axis=axis)


def unique(x, axis=None, in_order=True):
    """Distinct elements (or slices): themselves, where each is first, which each element is, and how often it is."""
    if axis is None:
        x, axis = ops.reshape(x, (-1,)), 0
    options = {"return_index": True, "return_inverse": True, "return_counts": True}
    values, first, inverse, counts = ops.unique(x, axis=axis, **options)
    if not in_order:
        order = ops.argsort(first)
        values, first, counts = ops.take(values, order, axis=axis), ops.take(first, order), ops.take(counts, order)
        inverse = ops.take(ops.argsort(order), inverse)
    return values, *(ops.cast(n, "int64") for n in (first, ops.reshape(inverse, (-1,)), counts))


def reverse_sequence(x, lengths, batch_axis=1, time_axis=0):
    """The first elements along time, as many as the batch's length, in reverse."""
    x = ops.moveaxis(x, (batch_axis, time_axis), (0, 1))
    at, lengths = ops.places(ops.shape(x)[1], x), ops.reshape(ops.as_index(lengths), (-1, 1))
    at = ops.where(at < lengths, lengths - 1 - at, at)
    at = ops.reshape(at, (*ops.shape(at), *[1] * (len(x.shape) - 2)))
    x = ops.take_along_axis(x, ops.broadcast_to(at, ops.shape(x)), axis=1)
    return ops.moveaxis(x, (0, 1), (batch_axis, time_axis))


def non_max_suppression(boxes, scores, max_per_class, iou_threshold, score_threshold=None, centered=False):
    """Rows (batch, class, box) of the best boxes that overlap no better one by more than the threshold."""
    boxes, scores = ops.convert_to_numpy(boxes), ops.convert_to_numpy(scores)
    if centered:
        center, half = boxes[..., :2], boxes[..., 2:] / 2
        low, high = center - half, center + half
    else:
        low, high = boxes[..., :2].copy(), boxes[..., 2:].copy()
        low, high = (low + high - abs(high - low)) / 2, (low + high + abs(high - low)) / 2
    area = (high - low).prod(-1)
    chosen = []
    for b in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            kept = []
            for i in (-scores[b, c]).argsort(kind="stable").tolist():
                if len(kept) == max_per_class:
                    break
                if score_threshold is not None and scores[b, c, i] <= score_threshold:
                    break
                size = high[b, kept].clip(max=high[b, i]) - low[b, kept].clip(min=low[b, i])
                shared = size.clip(min=0).prod(-1)
                if not (shared > iou_threshold * (area[b, i] + area[b, kept] - shared)).any():
                    kept.append(i)
            chosen += [[b, c, i] for i in kept]
    return ops.reshape(ops.convert_to_tensor(chosen, dtype="int64"), (-1, 3))


def count_ngrams(x, grams, places, lengths, skips, once=False, weights=None):
    """How often each n-gram stands in each row, its elements up to ``skips`` apart; at the places that are named."""
    rows = x if len(x.shape) == 2 else ops.expand_dims(x, 0)
    counts = [ops.sum(ops.zeros_like(rows, dtype="float32"), axis=1)] * (max(places) + 1)
    for i, (gram, place) in enumerate(zip(grams, places, strict=True)):
        n = len(gram)
        for step in range(1, skips + 2 if n > 1 else 2):
            if lengths[0] <= n <= lengths[1]:
                parts = [rows[:, j * step : (j - n + 1) * step or None] for j in range(n)]
                same = [ops.equal(part, element) for part, element in zip(parts, gram, strict=True)]
                found = ops.all(ops.stack(same, axis=-1), axis=-1)
                counts[place] = counts[place] + ops.sum(ops.cast(found, "float32"), axis=1)
        counts[place] = ops.minimum(counts[place], 1.0) if once else counts[place]
        counts[place] = counts[place] * (1.0 if weights is None else weights[i])
    counts = ops.stack(counts, axis=1)
    return counts if len(x.shape) == 2 else counts[0]
