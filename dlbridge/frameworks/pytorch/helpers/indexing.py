"""Helpers that read and write elements by index."""

import torch


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
