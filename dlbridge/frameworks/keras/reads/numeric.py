"""``keras.ops`` that make rows of numbers, compare neighbours, and count."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.building import IR_DTYPES
from dlbridge.frameworks.keras.graph.call_site import CallSite, operation

# --- functions of numbers --------------------------------------------------------------------------------------------


@operation("Gcd", "Lcm")
def divisor(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    """Euclid's steps, as many as the largest number that the second one can be may need."""
    if isinstance(x2, ir.Value):
        x1, x2 = x2, x1
    given = [v if isinstance(v, ir.Value) else keras.ops.convert_to_tensor(v) for v in (x1, x2)]
    dtype = site.common_dtype(*given)
    numbers = [site.op("Abs", site.cast(site.tensor(v), ir.DataType.INT64)) for v in given]
    if isinstance(x2, ir.Value):
        most = int(np.iinfo(dtype.numpy()).max) + 1
    else:
        most = int(np.max(np.abs(np.asarray(keras.ops.convert_to_numpy(x2), np.int64))))
    a, b = numbers
    for _ in range(_steps(site, most)):
        done = site.op("Equal", b, 0)
        rest = site.op("Mod", a, site.op("Where", done, 1, b))
        a, b = site.op("Where", done, a, b), rest
    if site.operation == "Gcd":
        return site.cast(a, dtype)
    return site.cast(numbers[0] * (numbers[1] / site.op("Max", a, 1)), dtype)


def _steps(site: CallSite, most: int) -> int:
    """The numbers of Fibonacci need the most steps (Lamé)."""
    if most > 1024:
        site.refuse("divisors of numbers beyond 1024: ONNX has no such op, and the steps to them are many")
    steps, a, b = 2, 1, 1
    while b <= most:
        steps, a, b = steps + 1, b, a + b
    return steps


# --- rows between two numbers ----------------------------------------------------------------------------------------


@operation("Linspace")
def linspace(site: CallSite, start: Any, stop: Any) -> ir.Value:
    if site.source.retstep:
        site.refuse("a row and its step: Keras gives the step no tensor")
    return _row(site, start, stop)


@operation("Logspace")
def logspace(site: CallSite, start: Any, stop: Any) -> ir.Value:
    return site.op("Pow", float(site.source.base), _row(site, start, stop))


@operation("Geomspace")
def geomspace(site: CallSite, start: Any, stop: Any) -> ir.Value:
    """Ten to a row between the logarithms, with the sign of the start."""
    if site.dtype != IR_DTYPES[site.source.dtype or keras.config.floatx()]:
        site.refuse("a row of another dtype than Keras says")
    ends = site.promoted(start, stop)
    if site.rank(ends[0]) and site.axis(int(site.source.axis), max(map(site.rank, ends)) + 1):
        site.refuse("geomspace along other than the first axis, where Keras on TensorFlow misplaces the signs")
    logs = [site.op("Log", site.op("Abs", v)) / math.log(10) for v in ends]
    return site.op("Pow", 10.0, _row(site, *logs)) * site.op("Sign", ends[0])


def _row(site: CallSite, start: Any, stop: Any) -> ir.Value:
    """Equally spaced numbers from ``start`` to ``stop``, along a new axis."""
    kind = site.source
    if kind.dtype and not IR_DTYPES[kind.dtype].is_floating_point():
        site.refuse("a row of whole numbers, which Keras says are floats")
    dtype = IR_DTYPES[kind.dtype] if kind.dtype else site.common_dtype(start, stop, 0.0)
    if not site.dtype.is_floating_point() or dtype != site.dtype:
        site.refuse("a row of another dtype than Keras says")
    if kind.num < 1:
        site.refuse("a row of no numbers")
    start, stop = _broadcast(site, *site.promoted(start, stop))
    rank, num = site.rank(start) + 1, int(kind.num)
    axis = site.axis(int(kind.axis), rank)
    if not kind.endpoint and num > 1:
        stop = stop - (stop - start) / float(num)
    first, last = site.unsqueeze(start, axis), site.unsqueeze(stop, axis)
    if num == 1:
        return first
    step = (last - first) / float(num - 1)
    places = np.arange(num - 1, dtype=first.dtype.numpy()).reshape([-1 if i == axis else 1 for i in range(rank)])
    return site.op("Concat", first + step * places, last, axis=axis)


def _broadcast(site: CallSite, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    if site.shape(a) == site.shape(b):
        return a, b
    return site.op("Expand", a, site.op("Shape", b)), site.op("Expand", b, site.op("Shape", a))


@operation("Vander")
def vander(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    count = kind.N if kind.N is not None else site.shape(x)[0]
    site.require([count], "as many powers as an axis whose size is not known")
    powers = np.arange(count) if kind.increasing else np.arange(count)[::-1]
    base = x if x.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else site.cast(x, "float32")
    y = site.op("Pow", site.unsqueeze(base, -1), powers.astype(base.dtype.numpy()))
    return site.cast(y, site.dtype)


# --- neighbours ------------------------------------------------------------------------------------------------------


@operation("Diff", operands=CallSite.tensors)
def diff(site: CallSite, x: ir.Value) -> ir.Value:
    axis = site.axis(int(site.source.axis), site.rank(x))
    op_type = "Xor" if x.dtype == ir.DataType.BOOL else "Sub"
    for _ in range(site.source.n):
        x = site.op(op_type, site.slice(x, axis, 1, None), site.slice(x, axis, 0, -1))
    return x


@operation("Trapezoid")
def trapezoid(site: CallSite, y: Any) -> ir.Value:
    kind, (y,) = site.source, site.promoted(y)
    rank = site.rank(y)
    axis = site.axis(int(kind.axis), rank)
    if any(isinstance(v, keras.KerasTensor) for v in (kind.x, kind.dx)):
        site.refuse("distances that are computed")
    both = site.slice(y, axis, 1, None) + site.slice(y, axis, 0, -1)
    if kind.x is None:
        gaps = np.asarray(keras.ops.convert_to_numpy(kind.dx))
    else:
        places = keras.ops.convert_to_numpy(kind.x).astype(y.dtype.numpy())
        gaps = np.moveaxis(np.diff(places, axis=int(kind.axis)), int(kind.axis), -1)
    moved = site.transpose(both * 0.5, [*(i for i in range(rank) if i != axis), axis])
    return site.op("ReduceSum", moved * gaps.astype(y.dtype.numpy()), [-1], keepdims=0)


# --- places and counts -----------------------------------------------------------------------------------------------


@operation("UnravelIndex")
def unravel_index(site: CallSite, indices: Any) -> Any:
    indices, shape = site.tensor(indices), [int(s) for s in site.source.shape]
    if site.rank(indices) != 1 and len(shape) > 1 and keras.backend.backend() == "tensorflow":
        site.refuse("unravel_index of other than one axis, which Keras on TensorFlow takes apart in the wrong order")
    rest, places = site.cast(indices, ir.DataType.INT64), []
    for size in reversed(shape):
        place = site.op("Mod", rest, size)
        places.append(site.cast(place, site.dtype))
        rest = (rest - place) / size
    return places[::-1]


@operation("Nonzero", operands=CallSite.tensors)
def nonzero(site: CallSite, x: ir.Value) -> Any:
    found = site.op("NonZero", x)
    return [site.op("Gather", found, axis, axis=0) for axis in range(site.rank(x))]


@operation("Unique")
def unique(site: CallSite, x: Any) -> Any:
    kind, x = site.source, site.tensor(x)
    dtype, shape, axis = x.dtype, site.op("Shape", x), kind.axis
    if kind.size is not None and kind.return_index:
        site.refuse("the places of a fixed number of values")
    if dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        x = site.cast(x, "float32" if dtype.is_floating_point() else "int64")
    # Keras orders slices by their elements after the axis changed places with the first
    perm = list(range(site.rank(x)))
    if axis is not None:
        axis = site.axis(int(axis), len(perm))
        perm[0], perm[axis] = perm[axis], perm[0]
        x = site.transpose(x, perm)
    made = site.op("Unique", x, axis=None if axis is None else 0, sorted=int(bool(kind.sorted)), outputs=4)
    values, places, inverse, counts = made
    if kind.size is not None:
        values = _sized(site, values, int(kind.size), 0 if kind.fill_value is None else kind.fill_value)
        if kind.return_counts:
            counts = _sized(site, counts, int(kind.size), 0)
    results = [site.cast(values if axis is None else site.transpose(values, perm), dtype)]
    results += [places] if kind.return_index else []
    if kind.return_inverse:
        results.append(site.op("Reshape", inverse, shape) if axis is None else inverse)
    results += [counts] if kind.return_counts else []
    return results


def _sized(site: CallSite, x: ir.Value, size: int, fill: Any) -> ir.Value:
    """The first rows, padded to a number of them."""
    pads = [0] * site.rank(x) + [size] + [0] * (site.rank(x) - 1)
    return site.slice(site.op("Pad", x, pads, fill), 0, 0, size)


@operation("Bincount")
def bincount(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.cast(site.tensor(x), ir.DataType.INT64)
    rank = site.rank(x)
    if kind.sparse or rank not in (1, 2) or isinstance(kind.weights, keras.KerasTensor):
        site.refuse("counts that are sparse, of more than two axes, or of computed weights")
    weighed = kind.weights is not None and site.dtype.is_floating_point()
    dtype = ir.DataType.FLOAT if weighed and site.dtype != ir.DataType.DOUBLE else site.dtype
    if kind.weights is None:
        each = site.op("Expand", site.build.value(1, dtype), site.op("Shape", x))
    else:
        each = site.cast(site.tensor(kind.weights), dtype)
    most = site.op("ReduceMax", x, keepdims=0) + 1
    count = site.unsqueeze(site.op("Max", most, int(kind.minlength)), 0)
    shape = count if rank == 1 else site.op("Concat", site.size(x, 0), count, axis=0)
    base = site.op("Expand", site.build.value(0, each.dtype), shape)
    return site.op("ScatterElements", base, x, each, axis=rank - 1, reduction="add")


@operation("Histogram")
def histogram(site: CallSite, x: Any) -> Any:
    kind, x = site.source, site.tensor(x)
    if site.rank(x) != 1 or kind.bins < 1:
        site.refuse("a histogram of other than one axis, or of no bins")
    edges = _edges(site, x, int(kind.bins))
    low, high = (site.op("Gather", edges, i) for i in (0, kind.bins))
    inner = site.slice(edges, 0, 1, -1)
    above = site.op("GreaterOrEqual", site.unsqueeze(x, 1), inner)
    bins = site.op("ReduceSum", site.cast(above, ir.DataType.INT64), [1])
    inside = site.op("And", site.op("GreaterOrEqual", x, low), site.op("LessOrEqual", x, high))
    base = site.build.constant(np.zeros(kind.bins, x.dtype.numpy()))
    return site.op("ScatterND", base, bins, site.cast(inside, x.dtype), reduction="add"), edges


def _edges(site: CallSite, x: ir.Value, bins: int) -> ir.Value:
    """The edges of bins between two numbers, or between the least and the greatest element."""
    kind = x.dtype.numpy()
    floating = x.dtype.is_floating_point()
    if site.source.range:
        low, high = site.source.range
        exact = isinstance(low, int) and isinstance(high, int)
        if not exact and not floating:
            site.refuse("a histogram of integers between fractions")
        number = np.float64 if exact else np.float32
        steps = number(low) + (number(high) - number(low)) / number(bins) * np.arange(bins, dtype=number)
        return site.build.constant(np.append(steps, number(high)).astype(kind))
    ends = [site.op(o, x, [0]) for o in ("ReduceMin", "ReduceMax")]
    if not floating:
        ends = [site.cast(v, "float64") for v in ends]
    number = ends[0].dtype.numpy()
    step = (ends[1] - ends[0]) / float(bins)
    inner = ends[0] + step * np.arange(bins, dtype=number)
    return site.cast(site.op("Concat", inner, ends[1], axis=0), x.dtype)
