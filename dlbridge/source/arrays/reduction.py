"""Reductions, and what orders and sums along an axis."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, Raw, call, code

reduction = Family()
_FUNCTIONS = {"ReduceSum": "sum", "ReduceProd": "prod"}
_EXTREMES = {"ReduceMax": ("max", "-"), "ReduceMin": ("min", "")}

#: Reduction -> the function of what is summed, and the one of the sum.
_SUMS = {
    "ReduceL1": ("abs", None),
    "ReduceL2": ("square", "sqrt"),
    "ReduceSumSquare": ("square", None),
    "ReduceLogSum": (None, "log"),
}


def axes_of(op: Op, arrays: ArrayDialect) -> Any:
    """The axes: None for all; an empty tuple where there is nothing to do; code where the array has to be read."""
    axes = arrays.ints(op, 1) if op.has(1) else []
    if isinstance(axes, Code):
        return axes if op.shape(1) != [0] else _without_axes(op)
    if not axes or (op.shape() is not None and len(axes) == op.rank() and not op.attr("keepdims")):
        return None if axes else _without_axes(op)
    return axes[0] if len(axes) == 1 else tuple(axes)


def _without_axes(op: Op) -> Any:
    if op.attr("noop_with_empty_axes"):
        return ()
    # Keras' PyTorch backend keeps no axes unless they are named.
    return tuple(range(op.rank())) if op.attr("keepdims") and op.shape() else None


def _reduce(op: Op, arrays: ArrayDialect, function: str, x: Any, **more: Any) -> Code:
    """``function(x, axis=..., keepdims=True)``; x itself where nothing is to be done."""
    axes = axes_of(op, arrays)
    if axes == ():
        return code("{}", x)
    keywords = ({"keepdims": True} if op.attr("keepdims") else {}) | more
    if not isinstance(axes, Code):
        return arrays.call(function, x, axis=axes, **keywords)
    if isinstance((op.shape(1) or [None])[0], int):
        return arrays.call(function, x, axis=axes, **keywords)
    if not op.attr("noop_with_empty_axes"):
        return arrays.call(function, x, axis=code("{} or None", axes), **keywords)
    return code("{} if {} else {}", arrays.call(function, x, axis=axes, **keywords), axes, x)


def _in_own_dtype(op: Op, arrays: ArrayDialect, result: Code) -> Code:
    """Frameworks sum small integers in wider ones."""
    change = op.dtype().name in arrays.widened
    return arrays.in_dtype(op, result) if change and axes_of(op, arrays) != () else result


@reduction(*_FUNCTIONS)
def reduce(op: Op, arrays: ArrayDialect) -> Code:
    return _in_own_dtype(op, arrays, _reduce(op, arrays, _FUNCTIONS[op.key], op.x))


@reduction("ReduceMax", "ReduceMin")
def reduce_extreme(op: Op, arrays: ArrayDialect) -> Code:
    """Of nothing, the least (or greatest) number of the type."""
    function, sign = _EXTREMES[op.key]
    if 0 in _reduced_sizes(op, axes_of(op, arrays)):
        return _reduce(op, arrays, function, op.x, initial=_bound(op, sign))
    return _reduce(op, arrays, function, op.x)


def _reduced_sizes(op: Op, axes: Any) -> list[Any]:
    """The sizes of the axes that are reduced; of all that may be, where the axes are read when the model runs."""
    sizes = op.shape() or []
    if axes is None or isinstance(axes, Code):
        return list(sizes)
    return [sizes[axis] for axis in ([axes] if isinstance(axes, int) else axes)]


def _bound(op: Op, sign: str) -> Any:
    dtype = op.dtype()
    if dtype.is_floating_point():
        return Raw(f'{sign}float("inf")')
    if dtype.name == "BOOL":
        return sign == ""
    low = -(2 ** (dtype.bitwidth - 1)) if dtype.is_signed() else 0
    return low if sign else low + 2**dtype.bitwidth - 1


@reduction("ReduceMean", "ReduceLogSumExp")
def reduce_in_floats(op: Op, arrays: ArrayDialect) -> Code:
    function = {"ReduceMean": "mean", "ReduceLogSumExp": "logsumexp"}[op.key]
    if op.dtype().is_integer() and axes_of(op, arrays) != ():
        wide = arrays.in_dtype(op, op.x, ir.DataType.DOUBLE)
        return arrays.in_dtype(op, _reduce(op, arrays, function, wide))
    return _reduce(op, arrays, function, op.x)


@reduction(*_SUMS)
def reduce_sum_of(op: Op, arrays: ArrayDialect) -> Code:
    inner, outer = _SUMS[op.key]
    summed = op.x if inner is None else arrays.call(inner, op.x)
    total = _reduce(op, arrays, "sum", summed)
    if outer is None:
        return _in_own_dtype(op, arrays, total)
    result = arrays.call(outer, total)
    return arrays.in_dtype(op, result) if op.dtype().is_integer() else _in_own_dtype(op, arrays, result)


@reduction("ArgMax", "ArgMin")
def arg_extreme(op: Op, arrays: ArrayDialect) -> Code:
    axis, x = op.axis(), op.x if op.dtype().name != "BOOL" else arrays.in_dtype(op, op.x, ir.DataType.UINT8)
    options = {"axis": axis, "keepdims": True if op.attr("keepdims") else None}
    if not op.attr("select_last_index"):
        return arrays.call(op.key.lower(), x, **options)
    flipped = arrays.call(op.key.lower(), arrays.call("flip", x, axis=axis), **options)
    return code("{} - 1 - {}", op.dim(0, axis), flipped)


@reduction("TopK")
def top_k(op: Op, arrays: ArrayDialect) -> Emit:
    axis = op.axis(default=-1)
    keywords: dict[str, Any] = {"axis": axis} if axis != op.rank() - 1 else {}
    keywords |= {} if op.attr("largest") else {"largest": False}
    return Emit(call("top_k", op.x, arrays.number(op, 1), **keywords))


@reduction("CumSum", "CumProd")
def cumulative(op: Op, arrays: ArrayDialect) -> Code:
    function, axis = op.key.lower(), arrays.number(op, 1)
    is_widened = op.dtype().name in arrays.widened
    if not op.attr("exclusive") and not op.attr("reverse"):
        dtype = arrays.dtype(op, op.out_dtype()) if is_widened else None
        return arrays.call(function, op.x, axis=axis, dtype=dtype)
    options = {k: True for k in ("exclusive", "reverse") if op.attr(k)}
    made = call("cumulative", Raw(arrays.name(function)), op.x, axis, **options)
    return arrays.in_dtype(op, made) if is_widened else made
