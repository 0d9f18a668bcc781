"""Sampling of images at points, and pooling of their regions."""

import math

from dlbridge.source.arrays import ops


def grid_sample(x, grid, mode="linear", padding="zeros", align_corners=False, shapes=None):
    """x (batch, channels, ...) read at points (batch, ..., axes): coordinates from -1 to 1, the last axis first."""
    (batch, channels, *sizes), points = shapes or (x.shape, grid.shape)
    batch, dtype, count, total = -1 if batch is None else batch, x.dtype, len(sizes), 0
    pixels = ops.transpose(ops.reshape(x, (batch, channels, math.prod(sizes))), (0, 2, 1))
    taps = []
    for axis, size in enumerate(sizes):
        at = ops.cast(grid[..., count - 1 - axis], dtype)
        size = size if isinstance(size, int) else ops.cast(size, dtype)
        at = (at + 1) / 2 * (size - 1) if align_corners else ((at + 1) * size - 1) / 2
        taps.append(sample_taps(at, size, mode, padding, align_corners))
    for place in combinations(taps):
        index, weight = 0, 1
        for (near, part), size in zip(place, sizes, strict=True):
            index, weight = index * size + near, weight * part
        values = ops.take_along_axis(pixels, ops.reshape(index, (batch, math.prod(points[1:-1]), 1)), axis=1)
        total = total + values * ops.reshape(weight, (batch, math.prod(points[1:-1]), 1))
    return ops.reshape(ops.transpose(total, (0, 2, 1)), (batch, channels, *points[1:-1]))


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
        span = high - low  # of one element there is no other to reflect to
        span = max(span, 1) if isinstance(span, (int, float)) else ops.maximum(span, 1)
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
    sizes, axes = size[2:], []
    for length in sizes:
        i, count = (ops.cast(n, theta.dtype) for n in (ops.arange(length, dtype="int32"), length))
        axes.append((2 * i - count + 1) / (ops.maximum(count - 1, 1) if align_corners else count))
    mesh = ops.meshgrid(*axes, indexing="ij")
    points = ops.stack([*mesh[::-1], ops.ones_like(mesh[0])], axis=-1)
    points = ops.reshape(points, (1, -1, len(sizes) + 1))
    return ops.reshape(ops.matmul(points, ops.transpose(theta, (0, 2, 1))), (-1, *sizes, len(sizes)))


def roi_align(x, rois, batch, size, counts, spatial_scale=1.0, mode="avg", half_pixel=True):
    """Pools regions (x1, y1, x2, y2) of images into one size, from counts[0] x counts[1] points in each part of it."""
    channels, *sizes = ops.shape(x)[1:]
    pixels = ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (-1, channels))
    corners = rois * spatial_scale - (0.5 if half_pixel else 0)
    taps = []
    for axis in (0, 1):
        start, end = corners[:, 1 - axis], corners[:, 3 - axis]
        span = end - start if half_pixel else ops.maximum(end - start, 1.0)
        middles = (ops.arange(size[axis] * counts[axis], dtype=x.dtype) + 0.5) / (size[axis] * counts[axis])
        at = ops.expand_dims(start, 1) + ops.expand_dims(span, 1) * middles
        taps.append(region_taps(at, sizes[axis]))
    values = []
    for row, tall in taps[0]:
        for column, wide in taps[1]:
            at = (ops.reshape(ops.cast(batch, "int32"), (-1, 1, 1)) * sizes[0] + row[:, :, None]) * sizes[1]
            weight = tall[:, :, None] * wide[:, None, :]
            values.append(ops.take(pixels, at + column[:, None, :], axis=0) * weight[..., None])
    values = ops.stack(values) if mode == "max" else ops.expand_dims(sum(values), 0)
    values = ops.reshape(values, (values.shape[0], -1, size[0], counts[0], size[1], counts[1], channels))
    y = ops.max(values, axis=(0, 3, 5)) if mode == "max" else ops.mean(values, axis=(0, 3, 5))
    return ops.transpose(y, (0, 3, 1, 2))


def region_taps(at, size):
    """(index, weight) of the two elements along one axis around points; the weight is 0 more than one outside."""
    inside = ops.cast(ops.logical_and(at >= -1, at <= size), at.dtype)
    at = ops.clip(at, 0, size - 1)
    low = ops.floor(at)
    high = ops.minimum(low + 1, ops.number(size - 1, at.dtype))
    return [(ops.cast(low, "int32"), (1 - (at - low)) * inside), (ops.cast(high, "int32"), (at - low) * inside)]


def roi_align_by_size(x, rois, batch, size, spatial_scale=1.0, **options):
    """As roi_align, with as many points in a part of a region as it has pixels."""
    regions, pooled = ops.convert_to_numpy(rois) * spatial_scale, []
    for i, (left, top, right, bottom) in enumerate(regions.tolist()):
        spans = (bottom - top, right - left)
        spans = spans if options.get("half_pixel", True) else [max(span, 1.0) for span in spans]
        counts = [math.ceil(span / parts) for span, parts in zip(spans, size, strict=True)]
        pooled.append(roi_align(x, rois[i : i + 1], batch[i : i + 1], size, counts, spatial_scale, **options))
    return ops.concatenate(pooled) if pooled else ops.zeros((0, x.shape[1], *size), dtype=x.dtype)


def max_roi_pool(x, rois, size, spatial_scale=1.0):
    """The largest elements in each part of regions (image, x1, y1, x2, y2), whose corners are rounded to pixels."""
    pooled, limits = [], x.shape[2:]
    for image, left, top, right, bottom in ops.convert_to_numpy(rois).tolist():
        parts = []
        for start, end, count, limit in zip((top, left), (bottom, right), size, limits, strict=True):
            start, end = int(start * spatial_scale + 0.5), int(end * spatial_scale + 0.5)
            span = max(end - start + 1, 1)
            edges = [(start + i * span // count, start - (-(i + 1) * span // count)) for i in range(count)]
            parts.append([(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in edges])
        cells = [x[int(image), :, a:b, c:d] for a, b in parts[0] for c, d in parts[1]]
        cells = [ops.max(c, axis=(1, 2)) if 0 not in c.shape else ops.zeros_like(x[0, :, 0, 0]) for c in cells]
        pooled.append(ops.reshape(ops.stack(cells, axis=1), (x.shape[1], *size)))
    return ops.stack(pooled) if pooled else ops.zeros((0, x.shape[1], *size), dtype=x.dtype)
