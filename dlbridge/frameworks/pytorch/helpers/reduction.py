"""Helpers that reduce and order."""

import torch


def product(x, axes, keepdim=False):
    """The product over several axes (over all when none is named)."""
    for axis in sorted((a % x.dim() for a in axes or range(x.dim())), reverse=True):
        x = x.prod(axis, keepdim=keepdim, dtype=x.dtype)
    return x


def extreme(x, axes, keepdim=False, largest=True):
    """The maximum or minimum over axes (over all when none is named), which may be empty."""
    axes = (axes,) if isinstance(axes, int) else axes
    axes = [a % x.dim() for a in axes or range(x.dim())]
    if all(x.shape[a] for a in axes):
        return x.amax(axes, keepdim) if largest else x.amin(axes, keepdim)
    if x.is_floating_point():
        bound = -float("inf") if largest else float("inf")
    elif x.dtype == torch.bool:
        bound = not largest
    else:
        bound = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
    sizes = [1 if i in axes else size for i, size in enumerate(x.shape) if keepdim or i not in axes]
    return torch.full(sizes, bound, dtype=x.dtype, device=x.device)


def top_k(x, count, axis=-1, largest=True):
    """The largest (or smallest) elements in order, and where they are; of equal ones the first comes first."""
    values, indices = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


def cumulative(function, x, dim, exclusive=False, reverse=False):
    """torch.cumsum or torch.cumprod, without the element itself (exclusive), from the end (reverse)."""
    x = x.flip(dim) if reverse else x
    if exclusive and x.shape[dim]:
        first = torch.zeros_like if function is torch.cumsum else torch.ones_like
        x = torch.cat([first(x.narrow(dim, 0, 1)), x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    x = function(x, dim, dtype=x.dtype)
    return x.flip(dim) if reverse else x
