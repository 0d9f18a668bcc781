"""Helpers that read and write elements by index."""

import torch
import torch.nn.functional as F


def gather_nd(x, indices, batch_dims=0):
    """x at the places that the rows of indices name, for each batch."""
    data, places = x.flatten(0, batch_dims - 1) if batch_dims else x[None], indices
    places = places.flatten(0, batch_dims - 1) if batch_dims else places[None]
    batch = torch.arange(len(data), device=x.device).view(-1, *[1] * (places.dim() - 2)).expand(places.shape[:-1])
    found = data[(batch, *places.unbind(-1))]
    return found.reshape(*indices.shape[:-1], *found.shape[places.dim() - 1 :])


def scatter_nd(x, indices, updates, reduction="none"):
    """x with updates put (or reduced: add, mul, max, min) at the places that the rows of indices name."""
    depth = indices.shape[-1]
    places = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        places = places * x.shape[axis] + indices[..., axis] % x.shape[axis]
    rows = x.reshape(x.shape[:depth].numel(), -1)
    new = updates.reshape(places.numel(), rows.shape[1])
    at = places.reshape(-1, 1).expand_as(new)
    if reduction == "none":
        return rows.scatter(0, at, new).reshape(x.shape)
    how = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return rows.scatter_reduce(0, at, new, how).reshape(x.shape)


def tensor_scatter(cache, update, starts=None, axis=-2, circular=False):
    """cache with update written along an axis, from its batch's start on (around the end, when circular)."""
    axis = axis % cache.dim()
    length = update.shape[axis]
    starts = torch.zeros(len(cache), dtype=torch.int64, device=cache.device) if starts is None else starts
    at = starts.view(-1, 1) + torch.arange(length, device=cache.device)
    at = at % cache.shape[axis] if circular else at
    at = at.view(-1, *[1] * (axis - 1), length, *[1] * (cache.dim() - axis - 1)).expand_as(update)
    return cache.scatter(axis, at, update)


def one_hot(indices, depth, values, axis=-1):
    """values[1] where the index is the place along a new axis, else values[0]; out of range, values[0]."""
    rank = indices.dim() + 1
    places = torch.arange(depth, device=indices.device).view(-1, *[1] * (rank - 1 - axis % rank))
    indices = indices.to(torch.int64)
    wrapped = torch.where(indices < 0, indices + depth, indices).unsqueeze(axis)
    return torch.where(wrapped == places, values[1], values[0])


def compress(x, condition, axis=None):
    """The slices along an axis (or elements) where the condition holds."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().flatten())


def unique(x, axis=None, in_order=True):
    """Distinct elements (or slices): themselves, where each is first, which each element is, and how often it is."""
    if axis is None:
        x, axis = x.flatten(), 0
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    positions = torch.arange(x.shape[axis], device=x.device)
    first = torch.full_like(counts, x.shape[axis]).scatter_reduce(0, inverse.flatten(), positions, "amin")
    if not in_order:
        order = first.argsort()
        values, first, counts = values.index_select(axis, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    return values, first, inverse.flatten(), counts


def reverse_sequence(x, lengths, batch_axis=1, time_axis=0):
    """The first elements along time, as many as the batch's length, in reverse."""
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    at = torch.arange(moved.shape[1], device=x.device)
    at = torch.where(at < lengths.view(-1, 1), lengths.view(-1, 1) - 1 - at, at)
    at = at.view(*at.shape, *[1] * (moved.dim() - 2)).expand_as(moved)
    return moved.gather(1, at).movedim((0, 1), (batch_axis, time_axis))


def non_max_suppression(boxes, scores, max_per_class, iou_threshold, score_threshold=None, centered=False):
    """Rows (batch, class, box) of the best boxes that overlap no better one by more than the threshold."""
    if centered:
        center, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = torch.cat([center - half, center + half], -1)
    low, high = torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    chosen = []
    for b in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            kept = []
            for i in scores[b, c].sort(descending=True, stable=True).indices.tolist():
                if len(kept) == max_per_class:
                    break
                if score_threshold is not None and scores[b, c, i] <= score_threshold:
                    break
                size = (torch.minimum(high[b, i], high[b, kept]) - torch.maximum(low[b, i], low[b, kept])).clamp(min=0)
                shared = size.prod(-1)
                if not (shared > iou_threshold * (area[b, i] + area[b, kept] - shared)).any():
                    kept.append(i)
            chosen += [[b, c, i] for i in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def col2im(x, size, kernel, stride, pads, dilation):
    """Adds up blocks into an image of any number of axes: the inverse of taking windows."""
    count = len(size)
    full = [size[i] + pads[i] + pads[count + i] for i in range(count)]
    steps = [(full[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(count)]
    at = torch.zeros(1, dtype=torch.int64, device=x.device)
    for i in range(count):
        taps = torch.arange(kernel[i], device=x.device).view(-1, 1) * dilation[i]
        places = taps + torch.arange(steps[i], device=x.device) * stride[i]
        shape = [1] * (2 * count)
        shape[i], shape[count + i] = kernel[i], steps[i]
        at = at * full[i] + places.reshape(shape)
    planes = x.reshape(x.shape[0], -1, at.numel())
    total = x.new_zeros(*planes.shape[:2], torch.Size(full).numel()).index_add(2, at.flatten(), planes)
    image = total.reshape(*planes.shape[:2], *full)
    return F.pad(image, [-p for i in range(count - 1, -1, -1) for p in (pads[i], pads[count + i])])


def count_ngrams(x, grams, places, lengths, skips, once=False, weights=None):
    """How often each n-gram stands in each row, its elements up to ``skips`` apart; at the places that are named."""
    rows = x if x.dim() == 2 else x[None]
    counts = torch.zeros(len(rows), max(places) + 1, device=x.device)
    for i, (gram, place) in enumerate(zip(grams, places, strict=True)):
        n = len(gram)
        for step in range(1, skips + 2 if n > 1 else 2):
            reach = (n - 1) * step + 1
            if lengths[0] <= n <= lengths[1] and reach <= rows.shape[1]:
                windows = rows.unfold(1, reach, 1)[..., ::step]
                counts[:, place] += (windows == torch.tensor(gram, device=x.device)).all(-1).sum(1)
        counts[:, place] = counts[:, place].clamp(max=1) if once else counts[:, place]
        counts[:, place] *= 1 if weights is None else weights[i]
    return counts if x.dim() == 2 else counts[0]
