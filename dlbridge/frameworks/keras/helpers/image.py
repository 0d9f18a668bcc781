"""Sampling of images at points."""

import math

from keras import ops


def grid_sample(x, grid, mode="linear", padding="zeros", align_corners=False):
    """x (batch, channels, ...) read at points (batch, ..., axes): coordinates from -1 to 1, the last axis first."""
    sizes, dtype = x.shape[2:], x.dtype
    count = len(sizes)
    pixels = ops.transpose(ops.reshape(x, (-1, x.shape[1], math.prod(sizes))), (0, 2, 1))
    taps = []
    for axis, size in enumerate(sizes):
        at = ops.cast(grid[..., count - 1 - axis], dtype)
        at = (at + 1) / 2 * (size - 1) if align_corners else ((at + 1) * size - 1) / 2
        taps.append(sample_taps(at, size, mode, padding, align_corners))
    total = 0
    for place in combinations(taps):
        index, weight = 0, 1
        for (near, part), size in zip(place, sizes, strict=True):
            index, weight = index * size + near, weight * part
        values = ops.take_along_axis(pixels, ops.reshape(index, (-1, math.prod(grid.shape[1:-1]), 1)), axis=1)
        total = total + values * ops.reshape(weight, (-1, math.prod(grid.shape[1:-1]), 1))
    return ops.reshape(ops.transpose(total, (0, 2, 1)), (-1, x.shape[1], *grid.shape[1:-1]))


def combinations(taps):
    """One tap of each axis, in all ways."""
    found = [()]
    for of_axis in taps:
        found = [(*some, tap) for some in found for tap in of_axis]
    return found


def sample_taps(at, size, mode, padding, align_corners):
    """(index, weight) of the elements along one axis that a coordinate is read from; outside the weight is 0."""
    low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
    if mode != "cubic":
        at = bring_inside(at, size, padding, low, high)
    if mode == "nearest":
        places = [(ops.round(at), ops.ones_like(at))]
    elif mode == "linear":
        down = ops.floor(at)
        places = [(down, 1 - (at - down)), (down + 1, at - down)]
    else:
        down = ops.floor(at)
        places = [(down + i, cubic_weight(ops.abs(at - down - i))) for i in (-1, 0, 1, 2)]
        places = [(bring_inside(p, size, padding, low, high), w) for p, w in places]
    found = []
    for place, weight in places:
        inside = ops.logical_and(place >= 0, place <= size - 1)
        weight = ops.where(inside, weight, ops.zeros_like(weight))
        found.append((ops.cast(ops.clip(place, 0, size - 1), "int32"), weight))
    return found


def bring_inside(at, size, padding, low, high):
    """Coordinates beyond the border: at it, or reflected at it."""
    if padding == "border":
        return ops.clip(at, 0, size - 1)
    if padding == "reflection":
        span = high - low
        if span == 0:
            return ops.zeros_like(at)
        at = ops.abs(at - low)
        flips, rest = ops.floor(at / span), at - ops.floor(at / span) * span
        odd = flips - 2 * ops.floor(flips / 2)
        return ops.clip(ops.where(odd > 0, span - rest, rest) + low, 0, size - 1)
    return at


def cubic_weight(distance, a=-0.75):
    """The weight of an element in cubic interpolation (Keys, 1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return ops.where(distance <= 1, near, ops.where(distance < 2, far, ops.zeros_like(far)))


def affine_grid(theta, size, align_corners=False):
    """The points (batch, ..., axes) that a matrix (batch, axes, axes + 1) takes the pixels of an image to."""
    sizes = size[2:]
    axes = []
    for length in sizes:
        steps = [(2 * i + 1) / length - 1 for i in range(length)]
        if align_corners:
            steps = [2 * i / (length - 1) - 1 if length > 1 else -1.0 for i in range(length)]
        axes.append(ops.array(steps, dtype=theta.dtype))
    mesh = ops.meshgrid(*axes, indexing="ij")
    points = ops.stack([*mesh[::-1], ops.ones_like(mesh[0])], axis=-1)
    points = ops.reshape(points, (1, -1, len(sizes) + 1))
    return ops.reshape(ops.matmul(points, ops.transpose(theta, (0, 2, 1))), (-1, *sizes, len(sizes)))
