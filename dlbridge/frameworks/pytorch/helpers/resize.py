"""Helpers that resize and sample images."""

import math

import torch

from dlbridge.source.arrays.helpers.image import cubic_weight


def resize(
    x,
    scales=None,
    sizes=None,
    axes=None,
    mode="nearest",
    coordinates="half_pixel",
    rounding="round_prefer_floor",
    a=-0.75,
    exclude_outside=False,
    antialias=False,
    roi=None,
    outside=0.0,
    policy="stretch",
):
    """ONNX's Resize: one axis after the other, each by the formula of the standard."""
    axes, dtype = list(range(x.dim())) if axes is None else axes, x.dtype
    if sizes is not None:
        scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(axes)
            sizes = [math.floor(scales[0] * x.shape[axis] + 0.5) for axis in axes]
    else:
        sizes = [math.floor(scale * x.shape[axis]) for axis, scale in zip(axes, scales, strict=True)]
    x = x if mode == "nearest" or x.is_floating_point() else x.to(torch.float64)
    for i, (axis, scale, size) in enumerate(zip(axes, scales, sizes, strict=True)):
        region = None if roi is None else (roi[i], roi[i + len(axes)])
        if size == x.shape[axis] and scale == 1 and region in (None, (0, 1)):
            continue
        at = source_coordinates(x.shape[axis], scale, size, coordinates, region)
        if mode == "nearest":
            new = x.index_select(axis, nearest_index(at, rounding).clamp(0, x.shape[axis] - 1).to(x.device))
        else:
            taps = interpolation_matrix(at, x.shape[axis], scale if antialias else 1, mode, a, exclude_outside)
            new = (x.movedim(axis, -1) @ taps.to(x).T).movedim(-1, axis)
        if coordinates == "tf_crop_and_resize":
            beyond = ((at < 0) | (at > x.shape[axis] - 1)).to(x.device).view(-1, *[1] * (x.dim() - 1 - axis))
            new = torch.where(beyond, outside, new)
        x = new
    return x if x.dtype == dtype else x.to(dtype)


def source_coordinates(width, scale, size, coordinates, region):
    """Where in the input each output element lies."""
    y, length = torch.arange(size, dtype=torch.float64), scale * width
    if coordinates == "align_corners":
        return y * 0 if length == 1 else y * (width - 1) / (length - 1)
    if coordinates == "asymmetric":
        return y / scale
    if coordinates == "tf_crop_and_resize":
        start, end = region
        step = (end - start) * (width - 1)
        return start * (width - 1) + (y * 0 + step / 2 if length == 1 else y * step / (length - 1))
    if coordinates == "pytorch_half_pixel" and length == 1:
        return y * 0
    shift = width / 2 * (1 - size / length) if coordinates == "half_pixel_symmetric" else 0
    return shift + (y + 0.5) / scale - 0.5


def nearest_index(at, rounding):
    """Coordinates rounded: floor, ceil, or to the nearest with ties down or up."""
    down, up = torch.floor(at), torch.ceil(at)
    if rounding in ("floor", "ceil"):
        return (down if rounding == "floor" else up).long()
    closer_up = at - down > 0.5 if rounding == "round_prefer_floor" else at - down >= 0.5
    return torch.where(closer_up, up, down).long()


def interpolation_matrix(at, width, scale, mode, a, exclude_outside):
    """The weight of each input element in each output element; a scale below 1 widens the filter (antialias)."""
    scale, reach = min(scale, 1), 1 if mode == "linear" else 2
    first = math.floor(-reach / scale) + 1
    offsets = torch.arange(first, 2 - first, dtype=torch.float64)
    places = torch.floor(at).view(-1, 1) + offsets
    distance = ((places - at.view(-1, 1)) * scale).abs()
    if mode == "linear":
        weights = (1 - distance).clamp(0, 1)
    else:
        weights = cubic_weight(distance, a)
    if exclude_outside:
        weights = torch.where((places >= 0) & (places < width), weights, 0)
    if scale < 1 or exclude_outside:
        weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(len(at), width, dtype=torch.float64)
    return matrix.scatter_add(1, places.clamp(0, width - 1).long(), weights)


def roi_align(
    x,
    rois,
    batch,
    output_height=1,
    output_width=1,
    sampling_ratio=0,
    spatial_scale=1.0,
    mode="avg",
    half_pixel=True,
):
    """Pools regions (x1, y1, x2, y2) of images into one size, from points that are read bilinearly."""
    outputs = []
    for roi, b in zip(rois.tolist(), batch.tolist(), strict=True):
        left, top, right, bottom = (v * spatial_scale - (0.5 if half_pixel else 0) for v in roi)
        width, height = right - left, bottom - top
        if not half_pixel:
            width, height = max(width, 1.0), max(height, 1.0)
        bins = (height / output_height, width / output_width)
        count = [sampling_ratio or math.ceil(size) for size in bins]
        rows = top + bins[0] * sample_points(output_height, count[0], x)
        columns = left + bins[1] * sample_points(output_width, count[1], x)
        values = read_bilinear(x[int(b)], rows, columns)
        values = values.reshape(-1, output_height, count[0], output_width, count[1], *values.shape[3:])
        outputs.append(values.sum(-1).mean((2, 4)) if mode == "avg" else values.amax((-1, 2, 4)))
    return torch.stack(outputs) if outputs else x.new_zeros(0, x.shape[1], output_height, output_width)


def sample_points(bins, count, x):
    """The middles of ``count`` parts of each bin, in bins."""
    return (torch.arange(bins * count, dtype=x.dtype, device=x.device) + 0.5) / max(count, 1)


def read_bilinear(image, rows, columns):
    """The four weighted neighbours (channels, rows, columns, 4) of points; 0 more than a pixel outside."""
    parts = []
    for at, size in ((rows, image.shape[1]), (columns, image.shape[2])):
        inside = (at >= -1) & (at <= size)
        at = at.clamp(0, size - 1)
        low = at.floor().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        weight = at - low
        parts.append((low.long(), high.long(), (1 - weight) * inside, weight * inside))
    (top, bottom, wt, wb), (left, right, wl, wr) = parts
    corners = [(r, c, a[:, None] * b) for r, a in ((top, wt), (bottom, wb)) for c, b in ((left, wl), (right, wr))]
    return torch.stack([image[:, r][:, :, c] * w for r, c, w in corners], -1)
