"""Helpers that rearrange, cut and join tensors."""

import torch
import torch.nn.functional as F


def unsqueeze(x, axes):
    """x with axes of size 1 at these places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


def truncated_size(a, b):
    """A size, or a difference of sizes, divided and truncated; // would round a negative one down."""
    return max(a, 0) // b - max(-a, 0) // b


def split_evenly(x, count, dim=0):
    """x in count parts of one size; the last is smaller when that does not divide."""
    size, part = x.shape[dim], -(-x.shape[dim] // count)
    return x.split([max(0, min(part, size - i * part)) for i in range(count)], dim)


def slice_(x, starts, ends, axes=None, steps=None):
    """x[start:end:step] along each axis, where steps may be negative."""
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = list(range(x.shape[axis])[start:end:step])
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64, device=x.device))
    return x


def pad(x, pads, mode="constant", value=0, axes=None):
    """Pads (or, where negative, crops) the axes: all begins, then all ends. Modes: constant, reflect, edge, wrap."""
    axes = range(x.dim()) if axes is None else axes
    for i, axis in enumerate(axes):
        before, after, size = pads[i], pads[i + len(pads) // 2], x.shape[axis]
        if mode == "constant":
            tail = x.dim() - 1 - axis % x.dim()
            x = F.pad(x, [0, 0] * tail + [before, after], value=value)
            continue
        at = torch.arange(-before, size + after, device=x.device)
        if mode == "edge":
            at = at.clamp(0, size - 1)
        elif mode == "wrap":
            low, high = max(-before, 0), size + min(after, 0)
            at = low + (at - low) % (high - low)
        else:
            period = max(2 * (size - 1), 1)
            at = (size - 1) - ((at % period) - (size - 1)).abs()
        x = x.index_select(axis, at)
    return x


def depth_to_space(x, size):
    """Blocks of channels become squares of pixels; the channels of a block lie apart."""
    b, c, h, w = x.shape
    x = x.reshape(b, size, size, c // size**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(b, c // size**2, h * size, w * size)


def space_to_depth(x, size):
    """Squares of pixels become blocks of channels; the channels of a block lie apart."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // size, size, w // size, size)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(b, c * size**2, h // size, w // size)
