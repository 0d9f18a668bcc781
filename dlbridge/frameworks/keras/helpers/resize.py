"""Resizing by the formulas of the standard."""

import math

from keras import ops


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
    axes, dtype = list(range(len(x.shape))) if axes is None else axes, x.dtype
    if sizes is not None:
        scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(axes)
            sizes = [math.floor(scales[0] * x.shape[axis] + 0.5) for axis in axes]
    else:
        sizes = [math.floor(scale * x.shape[axis]) for axis, scale in zip(axes, scales, strict=True)]
    x = x if mode == "nearest" or "float" in str(dtype) else ops.cast(x, "float32")
    for i, (axis, scale, size) in enumerate(zip(axes, scales, sizes, strict=True)):
        width, region = x.shape[axis], None if roi is None else (roi[i], roi[i + len(axes)])
        if size == width and scale == 1 and region in (None, (0, 1)):
            continue
        at = [source_coordinate(y, width, scale, size, coordinates, region) for y in range(size)]
        if mode == "nearest":
            places = [min(max(nearest_index(c, rounding), 0), width - 1) for c in at]
            new = ops.take(x, ops.array(places, dtype="int32"), axis=axis)
        else:
            taps = [interpolation_weights(c, width, scale if antialias else 1, mode, a, exclude_outside) for c in at]
            matrix = ops.transpose(ops.array(taps, dtype=x.dtype))
            new = ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), matrix), -1, axis)
        if coordinates == "tf_crop_and_resize":
            beyond = ops.array([c < 0 or c > width - 1 for c in at], dtype="bool")
            beyond = ops.reshape(beyond, (-1, *[1] * (len(x.shape) - 1 - axis)))
            new = ops.where(beyond, ops.cast(outside, new.dtype), new)
        x = new
    return ops.cast(x, dtype)


def source_coordinate(y, width, scale, size, coordinates, region):
    """Where in the input output element y lies."""
    length = scale * width
    if coordinates == "align_corners":
        return 0 if length == 1 else y * (width - 1) / (length - 1)
    if coordinates == "asymmetric":
        return y / scale
    if coordinates == "tf_crop_and_resize":
        start, end = region
        step = (end - start) * (width - 1)
        return start * (width - 1) + (step / 2 if length == 1 else y * step / (length - 1))
    if coordinates == "pytorch_half_pixel" and length == 1:
        return -0.5
    shift = width / 2 * (1 - size / length) if coordinates == "half_pixel_symmetric" else 0
    return shift + (y + 0.5) / scale - 0.5


def nearest_index(at, rounding):
    """A coordinate rounded: floor, ceil, or to the nearest with ties down or up."""
    down, up = math.floor(at), math.ceil(at)
    if rounding in ("floor", "ceil"):
        return down if rounding == "floor" else up
    closer_up = at - down > 0.5 if rounding == "round_prefer_floor" else at - down >= 0.5
    return up if closer_up else down


def interpolation_weights(at, width, scale, mode, a, exclude_outside):
    """The weight of each input element at a coordinate; a scale below 1 widens the filter (antialias)."""
    scale, reach = min(scale, 1), 1 if mode == "linear" else 2
    first = math.floor(-reach / scale) + 1
    weights = {}
    for offset in range(first, 2 - first):
        place = math.floor(at) + offset
        distance = abs((place - at) * scale)
        if mode == "linear":
            weight = max(1 - distance, 0)
        elif distance <= 1:
            weight = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        else:
            weight = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a if distance < 2 else 0
        weights[place] = 0 if exclude_outside and not 0 <= place < width else weight
    total = sum(weights.values()) if scale < 1 or exclude_outside else 1
    row = [0.0] * width
    for place, weight in weights.items():
        row[min(max(place, 0), width - 1)] += weight / total
    return row
