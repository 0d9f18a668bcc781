"""Reductions, sorting, and sums and extremes along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import is_float, numel, rank, sizes, to_front, with_sizes
from dlbridge.frameworks.pytorch.graph.control import scan
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.ops import formulas


def axes_of(x: ir.Value, dim: Any) -> list[int]:
    """The axes in ``dim``; all if it is empty."""
    if dim in (None, [], ()):
        return list(range(rank(x)))
    return list(dim) if isinstance(dim, (list, tuple)) else [dim]


def reduce(op: Op, op_type: str, x: ir.Value, dim: Any, keepdim: bool) -> ir.Value:
    if rank(x) == 0:
        return x
    axes = axes_of(x, dim)
    made = op(op_type, x, axes, keepdims=int(keepdim))
    gone = {a % rank(x) for a in axes}
    kept = [1 if i in gone else s for i, s in enumerate(sizes(x)) if keepdim or i not in gone]
    return with_sizes(made, kept)


#: ATen op -> the standard's reduction, computed in the result's dtype.
_REDUCTIONS = {
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "special_logsumexp": "ReduceLogSumExp",
    "sum": "ReduceSum",
}


@reads(*(f"aten.{name}" for name in _REDUCTIONS))
def reduced(op: Op, x: ir.Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> ir.Value:
    return reduce(op, _REDUCTIONS[op.name], op.cast(x), dim, keepdim)


@reads("aten.max.dim", "aten.min.dim")
def extreme_and_where(op: Op, x: ir.Value, dim: int, keepdim: bool = False) -> list[ir.Value]:
    kind = op.name.capitalize()
    where = op(f"Arg{kind}", x, axis=dim, keepdims=int(keepdim))
    return [reduce(op, f"Reduce{kind}", x, dim, keepdim), where]


@reads("aten.argmax", "aten.argmin")
def where_extreme(op: Op, x: ir.Value, dim: int | None = None, keepdim: bool = False) -> ir.Value:
    kind = "ArgMax" if op.name == "argmax" else "ArgMin"
    if x.dtype == ir.DataType.BOOL:
        x = op.cast(x, ir.DataType.INT32)
    if dim is None:
        return op.reshape(op(kind, op.flat(x), axis=0, keepdims=0), op.sizes)
    return op(kind, x, axis=dim, keepdims=int(keepdim))


@reads("aten.any", "aten.all")
def any_or_all(op: Op, x: ir.Value, dim: Any = None, keepdim: bool = False) -> ir.Value:
    kind = "ReduceMax" if op.name == "any" else "ReduceMin"
    numbers = op.cast(op.cast(x, ir.DataType.BOOL), ir.DataType.INT32)
    return op.cast(reduce(op, kind, numbers, dim, keepdim))


# --- variance ------------------------------------------------------------------------------------------------------


@reads("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def variance(
    op: Op, x: ir.Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """The variance or its root, and the mean where that is asked for; one overload has ``unbiased`` first."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = int(unbiased)
    axes = axes_of(x, dim)
    mean = reduce(op, "ReduceMean", x, axes, True)
    centred = x - mean
    count = numel([sizes(x)[axis] for axis in axes])
    divisor = max(count - correction, 0) if isinstance(count, int) else count - correction
    found = reduce(op, "ReduceSum", centred * centred, axes, keepdim) / divisor
    if op.name.startswith("std"):
        found = op("Sqrt", found)
    if not op.name.endswith("mean"):
        return found
    return [found, mean if keepdim else op.squeeze(mean, axes)]


# --- along an axis -------------------------------------------------------------------------------------------------


@reads("aten.cumsum", "aten.cumprod")
def cumulative(op: Op, x: ir.Value, dim: int, *, dtype: Any = None) -> ir.Value:
    if rank(x) == 0:
        return op.cast(x)
    kind = "CumSum" if op.name == "cumsum" else "CumProd"
    return op(kind, op.cast(x), dim)


def neutral(kind: str | None, dtype: Any) -> Any:
    """The number that changes nothing in a sum (``add``), a product (``mul``), a ``max`` or ``min``."""
    if kind in ("add", "mul"):
        return 0 if kind == "add" else 1
    if dtype.is_floating_point():
        return -np.inf if kind == "max" else np.inf
    return np.iinfo(dtype.numpy()).min if kind == "max" else np.iinfo(dtype.numpy()).max


@reads("aten.cummax", "aten.cummin")
def cumulative_extreme(op: Op, x: ir.Value, dim: int) -> list[ir.Value]:
    """(cumulative extreme, index of its last occurrence); a NaN propagates."""
    order, back = to_front(x, dim)
    front = op.transpose(x, order)
    largest, of = op.name == "cummax", sizes(front)[1:]
    best = op.filled(neutral("max" if largest else "min", x.dtype), x.dtype, of)
    states = [best, op.filled(0, ir.DataType.INT64, of), op.number(0, ir.DataType.INT64)]

    def step(best: ir.Value, where: ir.Value, t: ir.Value, now: ir.Value) -> list[ir.Value]:
        newer = op("GreaterOrEqual" if largest else "LessOrEqual", now, best)
        if is_float(x):
            newer = op("Or", newer, op("IsNaN", now))
        kept = op("Where", newer, now, best)
        place = op("Where", newer, t, where)
        return [kept, place, t + 1, kept, place]

    *_, values, places = scan(op, [front], states, step)
    return [op.transpose(values, back), op.transpose(places, back)]


@reads("aten.logcumsumexp")
def log_of_sum(op: Op, x: ir.Value, dim: int) -> ir.Value:
    order, back = to_front(x, dim)
    front = op.transpose(x, order)
    of = sizes(front)[1:]

    def step(total: ir.Value, now: ir.Value) -> list[ir.Value]:
        made = formulas.logaddexp(op, total, now)
        return [made, made]

    *_, sums = scan(op, [front], [op.filled(-np.inf, x.dtype, of)], step)
    return op.transpose(sums, back)


# --- in order ------------------------------------------------------------------------------------------------------


@reads("aten.topk")
def topk(op: Op, x: ir.Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[ir.Value]:
    """The largest, or smallest, elements along an axis, in order, and their places."""
    values, where = op("TopK", x, [k], outputs=2, axis=dim, largest=int(largest), sorted=1)
    where.dtype = ir.DataType.INT64
    return [values, where]


@reads("aten.sort", "aten.sort.stable")
def sort(op: Op, x: ir.Value, *args: Any, **options: Any) -> list[ir.Value]:
    """``(dim, descending)``; the stable overload has its flag first or as a keyword."""
    if len(args) > 2:
        args = args[1:]
    dim, descending = (*args, *(-1, False)[len(args) :])
    dim, descending = options.get("dim", dim), options.get("descending", descending)
    numbers = x if is_float(x) or x.dtype != ir.DataType.BOOL else op.cast(x, ir.DataType.INT32)
    values, where = topk(op, numbers, sizes(x)[dim], dim, descending)
    return [op.cast(values, x.dtype), where]


@reads("aten.kthvalue")
def kth_value(op: Op, x: ir.Value, k: Any, dim: int = -1, keepdim: bool = False) -> list[ir.Value]:
    """The k-th smallest element along an axis, and its place."""
    axis = dim % rank(x)
    found = [op.slice(v, axis, k - 1, k) for v in topk(op, x, k, axis, False)]
    return found if keepdim else [op("Squeeze", v, [axis]) for v in found]


@reads("aten.median", "aten.nanmedian")
def median(op: Op, x: ir.Value, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower middle element along an axis, and its place; of all elements without it."""
    if dim is None:
        return median(op, op.flat(x), 0)[0]
    axis = dim % rank(x)
    if not is_float(x):
        return kth_value(op, x, (sizes(x)[axis] + 1) // 2, axis, keepdim)
    found = (_median_but_nan if op.name == "nanmedian" else _median)(op, x, axis)
    return found if keepdim else [op("Squeeze", v, [axis]) for v in found]


def _median(op: Op, x: ir.Value, axis: int) -> list[ir.Value]:
    """NaN if there is a NaN."""
    value, place = kth_value(op, x, (sizes(x)[axis] + 1) // 2, axis, keepdim=True)
    spoilt = op("ReduceSum", x, [axis], keepdims=1)
    return [op("Where", op("IsNaN", spoilt), spoilt, value), place]


def _median_but_nan(op: Op, x: ir.Value, axis: int) -> list[ir.Value]:
    """Of the elements that are not NaN; NaN if there are none."""
    nan = op("IsNaN", x)
    known = op("ReduceSum", op.cast(op("Not", nan), ir.DataType.INT64), [axis], keepdims=1)
    in_order = topk(op, op("Where", nan, np.inf, x), sizes(x)[axis], axis, False)
    value, place = (op("GatherElements", v, op("Max", (known - 1) / 2, 0), axis=axis) for v in in_order)
    return [op("Where", op("Equal", known, 0), np.nan, value), place]


@reads("aten.histc")
def histc(op: Op, x: ir.Value, bins: int = 100, min: float = 0, max: float = 0) -> ir.Value:
    """Histogram: the count of elements in each of ``bins`` equal parts of [min, max]."""
    if min == max:
        op.refuse("histc of a range that follows from the numbers")
    x = with_sizes(op("Reshape", op.cast(x), [-1, 1]), [numel(sizes(x)), 1])
    place = op("Floor", (x - min) * bins / (max - min))
    place = op("Where", op("Equal", x, max), bins - 1, place)
    return op("ReduceSum", op.cast(op("Equal", place, op.constant(np.arange(bins), op.dtype))), [0], keepdims=0)
