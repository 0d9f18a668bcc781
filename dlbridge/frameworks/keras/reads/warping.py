"""``keras.ops.image`` that read an image at computed places."""

from __future__ import annotations

import itertools
import math
from functools import partial, reduce
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.compat import backend
from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.linalg import cross_product

_FLOAT, _DOUBLE, _LONG = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64

# --- projective transforms -------------------------------------------------------------------------------------------


@operation("AffineTransform")
def affine_transform(site: CallSite, images: Any, transform: Any) -> ir.Value:
    return _projected(site, images, site.cast(site.tensor(transform), _FLOAT), site.source.fill_mode)


@operation("PerspectiveTransform")
def perspective_transform(site: CallSite, images: Any, start_points: Any, end_points: Any) -> ir.Value:
    points = start_points, end_points
    if any(isinstance(p, ir.Value) for p in points):
        return _projected(site, images, _homography(site, *(site.cast(site.tensor(p), _DOUBLE) for p in points)))
    arrays = (np.asarray(keras.ops.convert_to_numpy(p), np.float32).reshape(-1, 4, 2) for p in points)
    numbers = backend.image.compute_homography_matrix(*(keras.ops.convert_to_tensor(a) for a in arrays))
    return _projected(site, images, site.build.value(keras.ops.convert_to_numpy(numbers)))


def _homography(site: CallSite, start: ir.Value, end: ir.Value) -> ir.Value:
    """The eight numbers that take the four end points to the start points, in closed form.

    With the first three points of each as the columns of a matrix, and the fourth a sum of them with some weights, it
    is start @ diag(start weights / end weights) @ inverse(end), but for a factor. Keras solves eight equations.
    """
    start, end = (site.unsqueeze(p, 0) if site.rank(p) == 2 else p for p in (start, end))
    start, end = (site.op("Pad", p, [0, 0, 0, 0, 0, 1], 1.0) for p in (start, end))  # (N, 4, 3), rows x, y, 1
    weights, adjugates = [], []
    for points in (start, end):
        first, fourth = site.slice(points, 1, 0, 3), site.slice(points, 1, 3, 4)
        ahead, behind = (site.op("Gather", first, np.array(p), axis=1) for p in ([1, 2, 0], [2, 0, 1]))
        adjugates.append(cross_product(site, ahead, behind, -1))
        weights.append(site.op("ReduceSum", adjugates[-1] * fourth, [2]))
    turned = site.transpose(site.slice(start, 1, 0, 3), [0, 2, 1])
    scaled = adjugates[1] * site.op("Div", *weights)
    matrix = site.op("Reshape", site.op("MatMul", turned, scaled), [0, 9])
    return site.cast(site.slice(matrix, 1, 0, 8) / site.slice(matrix, 1, 8, 9), _FLOAT)


def _projected(site: CallSite, images: Any, transform: ir.Value, fill_mode: str = "constant") -> ir.Value:
    """An image whose pixel (x, y) is that at the place ((a x + b y + c) / k, (d x + e y + f) / k) of the one given.

    k is g x + h y + 1. It is TensorFlow's ImageProjectiveTransformV3, which computes in float32 whatever the image is.
    """
    kind, x = site.source, site.tensor(images)
    single = site.rank(x) == 3
    if single:
        x = site.unsqueeze(x, 0)
    first = kind.data_format == "channels_first"
    if first:
        x = site.transpose(x, [0, 2, 3, 1])
    shared = site.rank(transform) == 1 or site.shape(transform)[0] == 1
    numbers = site.op("Reshape", transform, [8] if shared else [-1, 8, 1])
    height, width = (site.build.sizes.of_axis(x, axis) for axis in (1, 2))
    ys, xs = _count(site, height, [-1, 1]), _count(site, width, [1, -1])
    a, b, c, d, e, f, g, h = site.op("Split", numbers, axis=0 if shared else 1, num_outputs=8, outputs=8)
    k, across, down = (p * xs + q * ys + r for p, q, r in ((g, h, 1.0), (a, b, c), (d, e, f)))
    nowhere = site.op("Equal", k, 0.0)
    k = site.op("Where", nowhere, 1.0, k)
    places = [_inside(site, place / k, size, fill_mode) for place, size in ((down, height), (across, width))]
    fill, dtype = float(np.float32(kind.fill_value).astype(x.dtype.numpy())), x.dtype
    nearest = kind.interpolation == "nearest"
    if not nearest:
        x = site.cast(x, _FLOAT)
    pick = partial(_pixels, site, site.op("Reshape", x, [0, -1, site.build.sizes.of_axis(x, 3)]), shared, fill)
    wholes = [[_rounded(site, p)] if nearest else _neighbours(site, p) for p in places]
    rows, columns = (
        [_line(site, whole, size, step, fill_mode == "constant") for whole in on_axis]
        for on_axis, size, step in zip(wholes, (height, width), (width, 1), strict=True)
    )
    found = [[pick(row, column) for column in columns] for row in rows]
    y = found[0][0] if nearest else _blend(site, found, wholes, places)
    y = site.op("Where", site.unsqueeze(nowhere, -1), fill, y)
    y = site.cast(y, dtype)
    if first:
        y = site.transpose(y, [0, 3, 1, 2])
    return site.squeeze(y, 0) if single else y


def _count(site: CallSite, size: int, shape: list[int]) -> ir.Value:
    """0, 1, ... as float32."""
    return site.op("Reshape", site.op("Range", site.build.value(0.0, _FLOAT), size, 1.0), shape)


def _rounded(site: CallSite, x: ir.Value) -> ir.Value:
    """Round, with halves away from zero."""
    far = site.op("Abs", x)
    low = site.op("Floor", far)
    up = site.cast(site.op("GreaterOrEqual", far - low, 0.5), x.dtype)
    return site.op("Sign", x) * (low + up)


def _inside(site: CallSite, x: ir.Value, size: int, fill_mode: str) -> ir.Value:
    """Map positions beyond the edges to positions inside, as TensorFlow's MapCoordinate does."""
    if fill_mode == "constant":
        return x
    if fill_mode in ("reflect", "wrap"):
        reflects = fill_mode == "reflect"
        period = 2 * size if reflects else size - 1
        ahead, back = site.op("Floor", x / period), site.op("Floor", -x / period)
        if reflects:
            low, high = x + back * period, x - ahead * period
            low = site.op("Where", site.op("Less", low, -size), low + period, -1.0 - low)
            high = site.op("Where", site.op("GreaterOrEqual", high, size), period - high - 1.0, high)
        else:
            low, high = x + (back + 1.0) * size, x - ahead * size
        x = site.op("Where", site.op("Greater", x, size - 1), high, site.op("Where", site.op("Less", x, 0.0), low, x))
    return site.op("Clip", x, 0.0, size - 1)


def _line(site: CallSite, whole: ir.Value, size: int, step: int, beyond: bool) -> tuple[ir.Value, ir.Value | None]:
    """(where the row or column nearest to a number starts, whether it is that number, only if that is asked).

    In the fill modes but "constant", what is read beyond the edge has no weight.
    """
    near = site.op("Clip", whole, 0.0, size - 1)
    start = site.cast(near, _LONG)
    return start * step if step != 1 else start, site.op("Equal", whole, near) if beyond else None


def _pixels(
    site: CallSite,
    flat: ir.Value,
    shared: bool,
    fill: float,
    row: tuple[ir.Value, ir.Value | None],
    column: tuple[ir.Value, ir.Value | None],
) -> ir.Value:
    """The pixels where a row and a column for each place meet, of images as (batch, pixels, channels)."""
    place = row[0] + column[0]
    if shared:
        found = site.op("Gather", flat, place, axis=1)
    else:
        batch = site.op("Concat", site.size(flat, 0), [1, 1], axis=0)
        found = site.op("GatherND", flat, site.unsqueeze(site.op("Expand", place, batch), -1), batch_dims=1)
    if row[1] is None:
        return found
    return site.op("Where", site.unsqueeze(site.op("And", row[1], column[1]), -1), found, fill)


def _neighbours(site: CallSite, place: ir.Value) -> list[ir.Value]:
    low = site.op("Floor", place)
    return [low, low + 1.0]


def _blend(
    site: CallSite, found: list[list[ir.Value]], wholes: list[list[ir.Value]], places: list[ir.Value]
) -> ir.Value:
    """Interpolate between the pixels around each position."""
    across, down = (
        [site.unsqueeze(site.op("Sub", *pair), -1) for pair in ((high, place), (place, low))]
        for (low, high), place in zip(reversed(wholes), reversed(places), strict=True)
    )
    return _sum(site, [_sum(site, row, across) for row in found], down)


def _sum(site: CallSite, values: list[ir.Value], weights: list[ir.Value]) -> ir.Value:
    return site.op("Add", *(w * v for w, v in zip(weights, values, strict=True)))


# --- coordinates -----------------------------------------------------------------------------------------------------


@operation("MapCoordinates")
def map_coordinates(site: CallSite, inputs: Any, coordinates: Any) -> ir.Value:
    kind, x, where = site.source, site.tensor(inputs), site.tensor(coordinates)
    if kind.order not in (0, 1):
        site.refuse(f"interpolation of order {kind.order}")
    rank = site.rank(x)
    parts = site.op("Split", where, axis=0, num_outputs=rank, outputs=rank) if rank > 1 else [where]
    axes = []
    for axis, part in enumerate(parts):
        size = site.build.sizes.of_axis(x, axis)
        part = site.squeeze(part, 0)
        nodes = _linear(site, part) if kind.order else [(_nearest(site, part), None)]
        axes.append([(*_wrapped(site, site.cast(i, _LONG), size, kind.fill_mode), w) for i, w in nodes])
    total = None
    for corner in itertools.product(*axes):
        indices, checks, weights = zip(*corner, strict=True)
        place = site.op("Concat", *(site.unsqueeze(i, -1) for i in indices), axis=-1)
        found = site.cast(site.op("GatherND", x, place), where.dtype)  # Keras: even where those are whole numbers
        if checks[0] is not None:
            there = reduce(lambda a, b: site.op("And", a, b), checks)
            fill = np.asarray(kind.fill_value).astype(x.dtype.numpy()).item()
            found = site.op("Where", there, found, fill)
        if weights[0] is not None:
            found = reduce(lambda a, b: a * b, weights) * found
        total = found if total is None else total + found
    assert total is not None
    if not x.dtype.is_floating_point() and total.dtype.is_floating_point():
        total = site.op("Round", total)
    return site.cast(total, x.dtype)


def _nearest(site: CallSite, place: ir.Value) -> ir.Value:
    return site.op("Round", place) if place.dtype.is_floating_point() else place


def _linear(site: CallSite, place: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """(whole number, its weight) below and above."""
    if not place.dtype.is_floating_point():
        site.refuse("interpolation between whole numbers")
    low = site.op("Floor", place)
    part = place - low
    return [(low, 1.0 - part), (low + 1.0, part)]


def _wrapped(site: CallSite, index: ir.Value, size: int, fill_mode: str) -> tuple[ir.Value, ir.Value | None]:
    """(an index inside, whether it was one before), the latter only where that matters.

    Keras' "mirror" reads beyond the end where an index is the size: that is an error there, and stays one.
    """
    if fill_mode in ("constant", "nearest"):
        inside = site.op("Clip", index, 0, size - 1)
        return inside, site.op("Equal", inside, index) if fill_mode == "constant" else None
    if fill_mode == "wrap":
        return site.op("Mod", index, size), None
    index = site.op("Mod", site.op("Abs", index), 2 * size)
    turned = (2 * size if fill_mode == "mirror" else 2 * size - 1) - index
    return site.op("Where", site.op("Less", index, size), index, turned), None


# --- scale and translate ---------------------------------------------------------------------------------------------


@operation("ScaleAndTranslate")
def scale_and_translate(site: CallSite, images: Any, output_shape: Any, scale: Any, translation: Any) -> ir.Value:
    """Along each axis the product with a matrix: the weight that each element has for each element of the result."""
    kind, x = site.source, site.tensor(images)
    if not x.dtype.is_floating_point():
        site.refuse("whole numbers, which TensorFlow cannot scale")
    rank = site.rank(x)
    for number, dim in enumerate(kind.spatial_dims):
        axis = site.axis(int(dim), rank)
        before, after = site.build.sizes.of_axis(x, axis), output_shape[axis]
        if not isinstance(after, int) or site.build.sizes.recover(after) is not None:
            site.refuse("a result whose size is not known")
        given = [v if isinstance(v, ir.Value) else keras.ops.convert_to_tensor(v) for v in (scale, translation)]
        if site.build.sizes.recover(before) is None:
            given += [keras.ops.arange(before, dtype="float32"), float(before)]
        else:
            given += [_count(site, before, [-1]), site.build.value(before, _FLOAT)]
        weights = partial(_weights, number, after, kind.method, kind.antialias)
        computed = any(isinstance(v, ir.Value) for v in given)
        matrix = site.reader.trace(weights, tuple(given), {}, flat=True) if computed else site.tensor(weights(*given))
        perm = [i for i in range(rank) if i != axis] + [axis]
        y = site.op("MatMul", site.transpose(x, perm), site.cast(matrix, x.dtype))
        x = site.transpose(y, [int(i) for i in np.argsort(perm)])
    return x


def _weights(
    number: int, after: int, method: str, antialias: bool, scale: Any, translation: Any, elements: Any, size: Any
) -> Any:
    """(elements, elements after): a kernel of the distance between two, each column divided by its sum."""
    ops = keras.ops
    dtype = keras.backend.result_type(scale.dtype, translation.dtype)
    step = 1.0 / ops.cast(scale[number], dtype)
    place = (ops.arange(after, dtype=dtype) + 0.5) * step - ops.cast(translation[number], dtype) * step - 0.5
    gap = ops.abs(ops.expand_dims(place, 0) - ops.expand_dims(ops.cast(elements, dtype), 1))
    if antialias:
        gap = gap / ops.maximum(step, 1.0)
    kernel = _kernel(gap, method)
    total = ops.sum(kernel, axis=0, keepdims=True)
    inside = ops.logical_and(place >= -0.5, place <= size - 0.5)
    kept = ops.logical_and(ops.abs(total) > 1000 * float(np.finfo(np.float32).eps), ops.expand_dims(inside, 0))
    return ops.where(kept, kernel / ops.where(total != 0, total, 1.0), 0.0)


def _kernel(x: Any, method: str) -> Any:
    ops = keras.ops
    if method.startswith("lanczos"):
        radius = float(method.removeprefix("lanczos"))
        wave = radius * ops.sin(math.pi * x) * ops.sin(math.pi * x / radius)
        y = ops.where(x > 1e-3, wave / ops.where(x != 0, math.pi**2 * x * x, 1.0), 1.0)
        return ops.where(x > radius, 0.0, y)
    if method.endswith("linear"):
        return ops.maximum(0.0, 1.0 - x)
    near = ((1.5 * x - 2.5) * x) * x + 1.0  # Keys' cubic
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x >= 2.0, 0.0, ops.where(x >= 1.0, far, near))
