"""``keras.ops`` that reduce axes, sort and count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, ends_of, operation
from dlbridge.frameworks.keras.reads.arithmetic import close

_REDUCTIONS = {"Sum": "ReduceSum", "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}
_REDUCTIONS |= {"Amax": "ReduceMax", "Amin": "ReduceMin", "Logsumexp": "ReduceLogSumExp"}


def reduce(site: CallSite, op_type: str, x: ir.Value, axis: Any, keepdims: bool = False) -> ir.Value:
    axes = site.axes(x, axis)
    if not axes:
        return x
    return site.op(op_type, x, axes, keepdims=None if keepdims else 0)


@operation(*_REDUCTIONS)
def reduction(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    x = site.tensor(x)
    name = site.operation
    x = site.as_float(x) if name in ("Mean", "Logsumexp") else site.cast(x, site.dtype)
    y = reduce(site, _REDUCTIONS[name], x, kind.axis, kind.keepdims)
    initial = getattr(kind, "initial", None)
    if initial is not None:
        y = site.op("Max" if "Max" in name else "Min", y, initial)
    return y


@operation("All", "Any")
def truth(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    numbers = site.cast(site.cast(site.tensor(x), ir.DataType.BOOL), "int32")
    op_type = "ReduceMin" if site.operation == "All" else "ReduceMax"
    return site.cast(reduce(site, op_type, numbers, kind.axis, kind.keepdims), ir.DataType.BOOL)


@operation("AllClose")
def allclose(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    kind = site.source
    near = close(site, x1, x2, float(kind.rtol), float(kind.atol), kind.equal_nan, finite=True)
    return _all_true(site, near, None)


@operation("CountNonzero")
def count_nonzero(site: CallSite, x: Any) -> ir.Value:
    return reduce(site, "ReduceSum", site.cast(site.cast(site.tensor(x), ir.DataType.BOOL), "int32"), site.source.axis)


@operation("Var", "Std")
def variance(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    y = variance_of(site, site.as_float(x), kind.axis, kind.keepdims)
    return site.op("Sqrt", y) if site.operation == "Std" else y


def variance_of(site: CallSite, x: ir.Value, axis: Any, keepdims: bool) -> ir.Value:
    gap = x - reduce(site, "ReduceMean", x, axis, True)
    return reduce(site, "ReduceMean", gap * gap, axis, keepdims)


@operation("Moments")
def moments(site: CallSite, x: Any) -> Any:
    """16-bit numbers are computed in float32, and both results are clipped to the range of float16."""
    kind, x = site.source, site.tensor(x)
    dtype = x.dtype
    short = dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    if short:
        x = site.cast(x, ir.DataType.FLOAT)
    results = [
        reduce(site, "ReduceMean", x, kind.axes, kind.keepdims),
        variance_of(site, x, kind.axes, kind.keepdims),
    ]
    if not short:
        return results
    return [site.cast(site.op("Clip", y, *ends_of(ir.DataType.FLOAT16)), dtype) for y in results]


@operation("Average")
def average(site: CallSite, x: Any, weights: Any = None) -> ir.Value:
    (x,), axis = site.promoted(x), site.source.axis
    if weights is None:
        return reduce(site, "ReduceMean", x, axis)
    (w,) = site.promoted(weights)
    if site.rank(w) != site.rank(x):
        shape = [1] * site.rank(x)
        shape[site.axis(axis, len(shape))] = -1
        w = site.op("Reshape", w, shape)
    return reduce(site, "ReduceSum", x * w, axis) / reduce(site, "ReduceSum", w, axis)


@operation("Ptp")
def peak_to_peak(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    high = reduce(site, "ReduceMax", x, kind.axis, kind.keepdims)
    return high - reduce(site, "ReduceMin", x, kind.axis, kind.keepdims)


@operation("Nansum", "Nanprod", "Nanmax", "Nanmin", "Nanmean", "Nanvar", "Nanstd")
def without_nan(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.as_float(x)
    name, axis, keep = site.operation.removeprefix("Nan"), kind.axis, kind.keepdims
    none = site.op("IsNaN", x)
    fill = {"max": -np.inf, "min": np.inf, "prod": 1.0}.get(name, 0.0)
    filled = site.op("Where", none, fill, x)
    if name in ("sum", "prod"):
        return reduce(site, f"Reduce{name.capitalize()}", filled, axis, keep)
    if name in ("max", "min"):
        y = reduce(site, f"Reduce{name.capitalize()}", filled, axis, keep)
        return site.op("Where", _all_true(site, none, axis, keep), np.nan, y)
    there = site.cast(site.op("Not", none), x.dtype)

    def mean(values: ir.Value, keepdims: bool) -> ir.Value:
        return site.op("Div", *(reduce(site, "ReduceSum", v, axis, keepdims) for v in (values, there)))

    if name == "mean":
        return mean(filled, keep)
    gap = (filled - mean(filled, True)) * there
    y = mean(gap * gap, keep)
    return site.op("Sqrt", y) if name == "std" else y


def _all_true(site: CallSite, flags: ir.Value, axis: Any, keepdims: bool = False) -> ir.Value:
    return site.cast(reduce(site, "ReduceMin", site.cast(flags, "int32"), axis, keepdims), ir.DataType.BOOL)


@operation("Argmax", "Argmin")
def arg(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    op_type = "ArgMax" if site.operation.endswith("max") else "ArgMin"
    if x.dtype == ir.DataType.BOOL:
        x = site.cast(x, "int32")
    if kind.axis is None:
        flat = site.op(op_type, site.op("Reshape", x, [-1]), axis=0, keepdims=0)
        return site.op("Reshape", flat, [1] * site.rank(x)) if kind.keepdims else flat
    return site.op(op_type, x, axis=int(kind.axis), keepdims=int(bool(kind.keepdims)))


@operation("Nanargmax", "Nanargmin")
def arg_without_nan(site: CallSite, x: Any) -> ir.Value:
    """The index of the extreme among numbers that are not NaN; -1 if there is none."""
    kind, x = site.source, site.tensor(x)
    if not x.dtype.is_floating_point():
        return arg(site, x)
    none = site.op("IsNaN", x)
    worst = -np.inf if site.operation == "Nanargmax" else np.inf
    found = site.cast(arg(site, site.op("Where", none, worst, x)), "int32")
    return site.op("Where", _all_true(site, none, kind.axis, kind.keepdims), -1, found)


#: Operation -> (ONNX op, the neutral number that replaces NaNs; None if they stay).
_CUMULATIVE = {
    "Cumsum": ("CumSum", None),
    "Nancumsum": ("CumSum", 0.0),
    "Cumprod": ("CumProd", None),
    "Nancumprod": ("CumProd", 1.0),
}


@operation(*_CUMULATIVE)
def cumulative(site: CallSite, x: Any) -> ir.Value:
    op_type, neutral = _CUMULATIVE[site.operation]
    (x,) = site.promoted(x)
    if neutral is not None and x.dtype.is_floating_point():
        x = site.op("Where", site.op("IsNaN", x), neutral, x)
    x, axis = site.along(x, site.source.axis)
    return site.op(op_type, x, axis)


@operation("Sort", "Argsort", "TopK")
def sort(site: CallSite, x: Any) -> Any:
    kind, x = site.source, site.tensor(x)
    name = site.operation
    if name == "TopK":
        return site.op("TopK", x, [int(kind.k)], axis=-1, outputs=2)  # any order will do where none is asked for
    x, axis = site.along(x, kind.axis)
    found = site.op("TopK", x, site.size(x, axis), axis=axis, largest=0, outputs=2)
    return found[0 if name == "Sort" else 1]


@operation("InTopK")
def in_top_k(site: CallSite, targets: Any, predictions: Any) -> ir.Value:
    """Whether fewer than k classes have a prediction above the target's."""
    predictions = site.tensor(predictions)
    indices = site.unsqueeze(site.cast(site.tensor(targets), ir.DataType.INT64), 1)
    own = site.op("GatherElements", predictions, indices, axis=1)
    above = reduce(site, "ReduceSum", site.cast(site.op("Greater", predictions, own), "int32"), 1)
    finite = site.op("Not", site.op("Or", site.op("IsNaN", own), site.op("IsInf", own)))
    return site.op("And", site.op("Less", above, int(site.source.k)), site.squeeze(finite, 1))


#: Method -> where among the sorted elements the quantile is, from where it would be among the numbers between them.
_PLACES: dict[str, Callable[[float], float]] = {
    "linear": lambda place: round(place, 6),
    "lower": math.floor,
    "higher": math.ceil,
    "nearest": round,
    "midpoint": lambda place: (math.floor(place) + math.ceil(place)) / 2,
}


def _fractions(q: Any, name: str) -> np.ndarray:
    """Quantiles, rounded to Keras' float type; Keras computes with them in float64."""
    return np.asarray(q, np.float32) / np.float32(100 if "percentile" in name.lower() else 1)


@operation("Median", "Quantile", "Percentile")
def quantile(site: CallSite, x: Any, q: Any = 0.5) -> ir.Value:
    kind = site.source
    method = getattr(kind, "method", "linear")
    if isinstance(q, ir.Value):
        return _computed_quantile(site, site.tensor(x), q)
    if method not in _PLACES or (method != "linear" and site.operation == "Quantile"):
        site.refuse(f"the method '{method}'")  # a recorded Quantile of Keras 3.15 forgets its method
    wanted = _fractions(q, site.operation)
    x, rank = site.as_float(x), site.rank(site.tensor(x))
    axes = site.axes(x, kind.axis)
    sizes = [site.shape(x)[a] for a in axes]
    site.require(sizes, "the quantile of a size that is not known")
    rest = [a for a in range(rank) if a not in axes]
    count = int(np.prod(sizes))
    moved = site.transpose(x, [*rest, *axes])
    flat = site.op("Reshape", moved, [*([0] * len(rest)), count])
    ordered, _ = site.op("TopK", flat, [count], axis=-1, largest=0, outputs=2)

    def at(place: float) -> ir.Value:
        low, part = int(np.floor(place)), place - np.floor(place)
        y = site.op("Gather", ordered, low, axis=-1)
        if part:
            y = y * (1 - part) + site.op("Gather", ordered, low + 1, axis=-1) * part
        return site.unsqueeze(y, *axes) if kind.keepdims else y

    found = [at(float(_PLACES[method](f * (count - 1)))) for f in wanted.reshape(-1).astype(np.float64)]
    return site.op("Concat", *(site.unsqueeze(y, 0) for y in found), axis=0) if wanted.ndim else found[0]


@operation("Nanmedian", "Nanquantile", "Nanpercentile")
def quantile_without_nan(site: CallSite, x: Any, q: Any = 0.5) -> ir.Value:
    """The numbers are sorted before what is none, and each row has its own count of them."""
    fractions = q if isinstance(q, ir.Value) else site.build.constant(np.asarray(q, np.float32))
    return _computed_quantile(site, site.tensor(x), fractions)


def _in_order(site: CallSite, x: ir.Value, axes: Sequence[int]) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(x with the axes as one, the last; that in ascending order; how many numbers there are that are not NaN)."""
    rest = [a for a in range(site.rank(x)) if a not in axes]
    flat = site.op("Reshape", site.transpose(x, [*rest, *axes]), [*([0] * len(rest)), -1])
    none = site.op("IsNaN", flat)
    filled = site.op("Where", none, np.inf, flat)
    ordered, _ = site.op("TopK", filled, site.size(flat, len(rest)), axis=-1, largest=0, outputs=2)
    count = site.op("ReduceSum", site.cast(site.op("Not", none), ir.DataType.INT64), [-1])
    return flat, ordered, count


def _computed_quantile(site: CallSite, x: ir.Value, q: ir.Value) -> ir.Value:
    """Quantiles that are an input too, of a row of them or of one. What is no number is passed on, or left out."""
    kind, name, x = site.source, site.operation, site.as_float(x)
    method = getattr(kind, "method", "linear")
    axes = site.axes(x, kind.axis)
    if not axes or site.rank(q) > 1 or (method != "linear" and name == "Quantile"):
        site.refuse("a computed quantile along no axis, of a matrix of fractions, or of a method that Keras forgets")
    single = site.rank(q) == 0
    q = q if q.dtype == ir.DataType.DOUBLE and name == "Quantile" else site.cast(q, ir.DataType.FLOAT)
    if "percentile" in name.lower():
        q = q / 100.0
    fractions = site.op("Reshape", site.cast(q, ir.DataType.DOUBLE), [-1])

    flat, ordered, count = _in_order(site, x, axes)
    kept = site.rank(flat) - 1
    whole = site.build.value(0, ir.DataType.INT64) if name.startswith("Nan") else site.size(flat, kept)
    empty = site.op("Equal", count, whole)
    if not name.startswith("Nan"):
        empty = site.op("Not", empty)
    y = site.op("Where", empty, np.nan, _between(site, ordered, count, fractions, method))
    y = site.squeeze(y, -1) if single else site.transpose(y, [kept, *range(kept)])
    return site.unsqueeze(y, *(a + (not single) for a in axes)) if kind.keepdims else y


def _between(site: CallSite, ordered: ir.Value, count: ir.Value, fraction: ir.Value, method: str) -> ir.Value:
    """The elements at fractions of the way through the first ``count`` of each sorted row."""
    last = count - 1
    place = site.cast(last, "float64") * fraction

    def element(index: ir.Value) -> ir.Value:
        return site.op("GatherElements", ordered, site.op("Max", site.cast(index, ir.DataType.INT64), 0), axis=-1)

    if method in ("lower", "higher", "nearest"):
        return element(site.op({"lower": "Floor", "higher": "Ceil", "nearest": "Round"}[method], place))
    high = site.op("Ceil", place)
    if method == "midpoint":
        return (element(site.op("Floor", place)) + element(high)) * 0.5
    if method != "linear":
        site.refuse(f"the method '{method}'")
    low = site.op("Max", high - 1.0, 0.0)
    high = site.op("Min", low + 1.0, site.cast(last, "float64"))
    part = site.cast(high - place, ordered.dtype)
    return element(high) * (1.0 - part) + element(low) * part


@operation("SegmentSum", "SegmentMax", "SegmentMin", "SegmentProd")
def segment(site: CallSite, data: Any, segment_ids: Any) -> ir.Value:
    kind = site.source
    name = site.operation.removeprefix("Segment").lower()
    data, ids = site.tensor(data), site.cast(site.tensor(segment_ids), ir.DataType.INT64)
    if kind.sorted and (kind.num_segments is not None or name in ("max", "min")):
        site.refuse("segments that are said to be sorted, whose empty ones differ")
    if not isinstance(segment_ids, ir.Value) and np.any(keras.ops.convert_to_numpy(segment_ids) < 0):
        site.refuse("negative segments")
    if kind.num_segments is None:
        count = site.op("ReduceMax", ids, [0]) + 1
    else:
        count = site.build.value([int(kind.num_segments)])
    lowest, highest = ends_of(data.dtype)
    fill = {"sum": 0, "prod": 1, "max": lowest, "min": highest}[name]
    computed, shape = isinstance(segment_ids, ir.Value), count
    if computed:  # elements with a negative id are dropped: they go to a further row, which is cut off
        ids, shape = site.op("Where", site.op("Less", ids, 0), count, ids), count + 1
    if site.rank(data) > 1:
        shape = site.op("Concat", shape, site.op("Shape", data, start=1), axis=0)
    base = site.op("Expand", site.build.value(fill, data.dtype), shape)
    how = {"sum": "add", "prod": "mul"}.get(name, name)
    y = site.op("ScatterND", base, site.unsqueeze(ids, 1), data, reduction=how)
    return site.op("Slice", y, [0], count, [0]) if computed else y
