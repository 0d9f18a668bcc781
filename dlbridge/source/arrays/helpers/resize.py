"""Resizing by the formulas of the standard."""

import math

from dlbridge.source.arrays import ops
from dlbridge.source.arrays.helpers.image import cubic_weight


def resize(
    x,
    scales=None,
    sizes=None,
    axes=None,
    shape=None,
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
    widths = [(x.shape if shape is None else shape)[axis] for axis in axes]
    if sizes is not None:
        scales = [ops.precise(size) / ops.precise(width) for size, width in zip(sizes, widths, strict=True)]
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(axes)
            sizes = [math.floor(scales[0] * width + 0.5) for width in widths]
    else:
        sizes = [scaled_size(width, scale) for width, scale in zip(widths, scales, strict=True)]
    x = x if mode == "nearest" or "float" in str(dtype) else ops.cast(x, "float32")
    for i, (axis, width, scale, size) in enumerate(zip(axes, widths, scales, sizes, strict=True)):
        region = None if roi is None else (roi[i], roi[i + len(axes)])
        if is_number(scale) and scale == 1 and region in (None, (0, 1)):
            continue
        down, part = source_places(x, width, scale, size, coordinates, region)
        if mode == "nearest":
            x = ops.take(x, ops.clip(nearest_index(down, part, rounding), 0, width - 1), axis=axis)
        else:
            filtered = scale if antialias else None
            matrix = interpolation_matrix(down, part, width, filtered, mode, a, exclude_outside)
            x = ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), ops.cast(matrix, x.dtype)), -1, axis)
        if coordinates == "tf_crop_and_resize":
            beyond = ops.logical_or(down < 0, nearest_index(down, part, "ceil") > width - 1)
            beyond = ops.reshape(beyond, (-1, *[1] * (len(x.shape) - 1 - axis)))
            x = ops.where(beyond, ops.number(outside, x.dtype), x)
    return ops.cast(x, dtype)


def resize_aligned(x, sizes, axes):
    """Interpolate linearly along axes, whose first and last elements stay at the ends."""
    for axis, size in zip(axes, sizes, strict=True):
        last = ops.cast(ops.shape(x)[axis] - 1, "int64")
        steps = ops.cast(ops.maximum(size - 1, 1), "int64")
        places = ops.cast(ops.arange(size), "int64") * last
        part = ops.cast(places % steps, x.dtype) / ops.cast(steps, x.dtype)
        part = ops.reshape(part, (-1, *[1] * (len(x.shape) - 1 - axis)))
        below = ops.take(x, places // steps, axis=axis)
        above = ops.take(x, ops.minimum(places // steps + 1, last), axis=axis)
        x = below * (1 - part) + above * part
    return x


def is_number(n):
    """Whether a size or scale is known: TensorFlow's graphs, and JAX where it infers shapes, do not know them."""
    return isinstance(n, (int, float))


def scaled_size(width, scale):
    """What is whole of scale * width."""
    if is_number(width):
        return math.floor(scale * width)
    if ops.is_tensor(width):
        return ops.cast(ops.floor(scale * ops.precise(width)), "int32")
    top, bottom = float(scale).as_integer_ratio()
    return width * top // bottom


def source_places(x, width, scale, size, coordinates, region):
    """Where in the input each output element lies: the index below, and the part of the step to the next."""
    dtype = "float64" if "float64" in str(x.dtype) else "float32"
    if all(is_number(n) for n in (width, scale, size)):
        at = [source_coordinate(y, width, scale, size, coordinates, region) for y in range(size)]
        down = [math.floor(c) for c in at]
        return ops.array(down, dtype="int32"), ops.array([c - d for c, d in zip(at, down, strict=True)], dtype=dtype)
    y = ops.precise(ops.arange(size, dtype="int32"))
    at = source_coordinate(y, ops.precise(width), scale, ops.precise(size), coordinates, region)
    down = ops.floor(at)
    return ops.cast(down, "int32"), ops.cast(at - down, dtype)


def source_coordinate(y, width, scale, size, coordinates, region):
    """Where in the input output element y lies, or each of several; all are numbers, or some are tensors."""
    length = scale * width
    if coordinates == "align_corners":  # a length below 2 has the element 0 alone
        return y * (width - 1) / (max(length - 1, 1) if is_number(length) else ops.maximum(length - 1, 1))
    if coordinates == "asymmetric":
        return y / scale
    if coordinates == "tf_crop_and_resize":
        start, end = region
        step = (end - start) * (width - 1)
        return start * (width - 1) + (y * 0 + step / 2 if length == 1 else y * step / (length - 1))
    shift = width / 2 * (1 - size / length) if coordinates == "half_pixel_symmetric" else 0
    at = shift + (y + 0.5) / scale - 0.5
    if coordinates == "pytorch_half_pixel":
        return (y * 0 if length == 1 else at) if is_number(length) else ops.where(length == 1, 0, at)
    return at


def nearest_index(down, part, rounding):
    """Places rounded: floor, ceil, or to the nearest with ties down or up."""
    if rounding == "floor":
        return down
    up = {"ceil": part > 0, "round_prefer_floor": part > 0.5, "round_prefer_ceil": part >= 0.5}[rounding]
    return down + ops.cast(up, "int32")


def interpolation_matrix(down, part, width, scale, mode, a, exclude_outside):
    """The weight of each input element (rows) in each output element; a scale below 1 widens the filter (antialias)."""
    reach, rows = 1 if mode == "linear" else 2, ops.reshape(ops.places(width, part), (-1, 1))
    if scale is not None:
        scale = min(scale, 1) if is_number(scale) else ops.minimum(scale, 1)
    if exclude_outside:
        weights = tap_weights(rows - down, part, scale, mode, a)
        return weights / ops.sum(weights, axis=0)
    if scale is not None:
        reach = reach / scale
        reach = math.ceil(reach) if is_number(reach) else ops.cast(ops.ceil(reach), "int32")
    taps = ops.reshape(ops.places(2 * reach, part) + 1 - reach, (-1, 1))
    weights = tap_weights(taps, part, scale, mode, a)
    weights = weights if scale is None else weights / ops.sum(weights, axis=0)
    places = ops.clip(down + taps, 0, width - 1)
    return ops.sum(ops.where(places == ops.expand_dims(rows, 1), weights, 0), axis=1)


def tap_weights(taps, part, scale, mode, a):
    """The weights of elements that are so many steps from the one below a place."""
    distance = ops.abs(ops.cast(taps, part.dtype) - part)
    distance = distance if scale is None else distance * ops.number(scale, part.dtype)
    if mode == "linear":
        return ops.maximum(1 - distance, 0)
    return cubic_weight(distance, a)
