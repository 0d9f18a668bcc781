"""Reductions, sorting, and sums and extremes along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.control import scan
from dlbridge.frameworks.pytorch.reading import Op, reads
from dlbridge.frameworks.pytorch.tensors import is_float, numel, rank, sizes, to_front, with_sizes
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


def _moments(op: Op, x: ir.Value, dim: Any, correction: Any, keepdim: bool) -> tuple[ir.Value, ir.Value]:
    """(variance, mean) over axes; the mean keeps them as size 1."""
    axes = axes_of(x, dim)
    middle = reduce(op, "ReduceMean", x, axes, True)
    centred = x - middle
    squares = reduce(op, "ReduceSum", centred * centred, axes, keepdim)
    count: Any = 1
    for axis in axes:
        count = count * sizes(x)[axis]
    divisor = max(count - correction, 0) if isinstance(count, int) else count - correction
    return squares / divisor, middle


def _correction(unbiased: Any, correction: Any) -> Any:
    if correction is not None:
        return correction
    return 1 if unbiased in (None, True) else 0


def _var(op: Op, x: ir.Value, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[ir.Value, ir.Value, list[int]]:
    """The overloads ``(unbiased)``, ``(dim, unbiased, keepdim)`` and ``(dim, *, correction, keepdim)`` are one."""
    if args and isinstance(args[0], bool):
        dim, unbiased, keepdim = None, args[0], False
    else:
        dim, unbiased, keepdim = (*args, *(None, None, False)[len(args) :])
    dim, unbiased = options.get("dim", dim), options.get("unbiased", unbiased)
    keepdim = options.get("keepdim", keepdim)
    variance, middle = _moments(op, x, dim, _correction(unbiased, options.get("correction")), keepdim)
    if not keepdim:
        middle = op.squeeze(middle, axes_of(x, dim))
    return variance, middle, axes_of(x, dim)


@reads("aten.var", "aten.std")
def variance(op: Op, x: ir.Value, *args: Any, **options: Any) -> ir.Value:
    found = _var(op, x, args, options)[0]
    return op("Sqrt", found) if op.name == "std" else found


@reads("aten.var_mean", "aten.std_mean")
def variance_and_mean(op: Op, x: ir.Value, *args: Any, **options: Any) -> list[ir.Value]:
    found, middle, _ = _var(op, x, args, options)
    return [op("Sqrt", found) if op.name == "std_mean" else found, middle]


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


@reads("aten.median", "aten.median.dim", "aten.kthvalue")
def ranked(op: Op, x: ir.Value, *args: Any, **options: Any) -> Any:
    """The k-th smallest element; for the median the lower middle one, and NaN if there is a NaN."""
    whole = op.name == "median" and not isinstance(op.val, (list, tuple))
    if whole:
        x = op.flat(x)
    k, *rest = args if op.name == "kthvalue" else (None, *args)
    dim, keepdim = (*rest, *(-1, False)[len(rest) :])
    axis, keepdim = options.get("dim", dim) % rank(x), options.get("keepdim", keepdim)
    if k is None:
        k = (sizes(x)[axis] + 1) // 2
    value, place = (op.slice(v, axis, k - 1, k) for v in topk(op, x, k, axis, False))
    if op.name == "median" and is_float(x):
        spoilt = op("ReduceSum", x, [axis], keepdims=1)
        value = op("Where", op("IsNaN", spoilt), spoilt, value)
    found = [v if keepdim and not whole else op("Squeeze", v, [axis]) for v in (value, place)]
    return found[0] if whole else found


@reads("aten.nanmedian")
def median_but_nan(op: Op, x: ir.Value, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower middle element among those that are not NaN; NaN if there are none."""
    whole = dim is None
    if whole:
        x = op.flat(x)
    axis = 0 if dim is None else dim % rank(x)
    nan = op("IsNaN", x) if is_float(x) else op("Less", x, x)
    known = op("ReduceSum", op.cast(op("Not", nan), ir.DataType.INT64), [axis], keepdims=1)
    filled = op("Where", nan, np.inf, x) if is_float(x) else x
    middle, in_order = op("Max", (known - 1) / 2, 0), topk(op, filled, sizes(x)[axis], axis, False)
    value, place = (op("GatherElements", v, middle, axis=axis) for v in in_order)
    if is_float(x):
        value = op("Where", op("Equal", known, 0), np.nan, value)
    found = [v if keepdim and not whole else op("Squeeze", v, [axis]) for v in (value, place)]
    return found[0] if whole else found


@reads("aten.histc")
def histc(op: Op, x: ir.Value, bins: int = 100, min: float = 0, max: float = 0) -> ir.Value:
    """Histogram: the count of elements in each of ``bins`` equal parts of [min, max]."""
    if min == max:
        op.refuse("histc of a range that follows from the numbers")
    x = with_sizes(op("Reshape", op.cast(x), [-1, 1]), [numel(sizes(x)), 1])
    place = op("Floor", (x - min) * bins / (max - min))
    place = op("Where", op("Equal", x, max), bins - 1, place)
    return op("ReduceSum", op.cast(op("Equal", place, op.constant(np.arange(bins), op.dtype))), [0], keepdims=0)
