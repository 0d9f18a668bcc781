"""Reductions, and what orders and sums along an axis."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import in_dtype, ints, number, rules
from dlbridge.source.code import Code, Raw, call, code
from dlbridge.source.op import Emit, Op

_FUNCTIONS = {"ReduceSum": "ops.sum", "ReduceProd": "ops.prod"}
_EXTREMES = {"ReduceMax": ("ops.max", "-"), "ReduceMin": ("ops.min", "")}

#: Reduction -> the template of what is summed, and of what is made of the sum.
_SUMS = {
    "ReduceL1": ("ops.abs({})", "{}"),
    "ReduceL2": ("ops.square({})", "ops.sqrt({})"),
    "ReduceSumSquare": ("ops.square({})", "{}"),
    "ReduceLogSum": ("{}", "ops.log({})"),
}

#: What Keras sums in another type.
_SMALL = {"INT8", "INT16", "UINT8", "UINT16", "BOOL"}


def _axes(op: Op) -> Any:
    """The axes: None for all; an empty tuple where there is nothing to do; code where the tensor has to be read."""
    axes = ints(op, 1) if op.has(1) else []
    if isinstance(axes, Code):
        return axes if op.shape(1) != [0] else _without_axes(op)
    return (axes[0] if len(axes) == 1 else tuple(axes)) if axes else _without_axes(op)


def _without_axes(op: Op) -> Any:
    if op.attr("noop_with_empty_axes"):
        return ()
    # Keras' PyTorch backend keeps no axes unless they are named.
    return tuple(range(op.rank())) if op.attr("keepdims") and op.shape() else None


def _reduce(op: Op, function: str, x: Any, **more: Any) -> Code:
    """``function(x, axis=..., keepdims=True)``; x itself where nothing is to be done."""
    axes = _axes(op)
    if axes == ():
        return code("{}", x)
    keywords = ({"keepdims": True} if op.attr("keepdims") else {}) | more
    if not isinstance(axes, Code):
        return call(function, x, axis=axes, **keywords)
    if isinstance((op.shape(1) or [None])[0], int):
        return call(function, x, axis=axes, **keywords)
    if not op.attr("noop_with_empty_axes"):
        return call(function, x, axis=code("{} or None", axes), **keywords)
    return code("{} if {} else {}", call(function, x, axis=axes, **keywords), axes, x)


def _in_own_dtype(op: Op, result: Code, *, always: bool = False) -> Code:
    """Keras sums small integers in int32, and takes roots and means of all in float32."""
    change = op.dtype().is_integer() if always else op.dtype().name in _SMALL
    return in_dtype(op, result) if change and _axes(op) != () else result


@rules(*_FUNCTIONS)
def reduce(op: Op) -> Code:
    return _in_own_dtype(op, _reduce(op, _FUNCTIONS[op.key], op.x))


@rules("ReduceMax", "ReduceMin")
def reduce_extreme(op: Op) -> Code:
    """Of nothing, the least (or greatest) number of the type."""
    function, sign = _EXTREMES[op.key]
    axes, shape = _axes(op), op.shape() or []
    chosen = range(len(shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    if 0 in shape if isinstance(axes, Code) else any(shape[a] == 0 for a in chosen):
        return _reduce(op, function, op.x, initial=_bound(op, sign))
    return _reduce(op, function, op.x)


def _bound(op: Op, sign: str) -> Any:
    dtype = op.dtype()
    if dtype.is_floating_point():
        return Raw(f'{sign}float("inf")')
    if dtype.name == "BOOL":
        return sign == ""
    low = -(2 ** (dtype.bitwidth - 1)) if dtype.is_signed() else 0
    return low if sign else low + 2**dtype.bitwidth - 1


@rules("ReduceMean")
def reduce_mean(op: Op) -> Code:
    if op.dtype().is_integer() and _axes(op) != ():
        return in_dtype(op, _reduce(op, "ops.mean", call("ops.cast", op.x, "float64")))
    return _reduce(op, "ops.mean", op.x)


@rules("ReduceLogSumExp")
def reduce_log_sum_exp(op: Op) -> Code:
    if op.dtype().is_integer() and _axes(op) != ():
        return in_dtype(op, _reduce(op, "ops.logsumexp", call("ops.cast", op.x, "float64")))
    return _reduce(op, "ops.logsumexp", op.x)


@rules(*_SUMS)
def reduce_sum_of(op: Op) -> Code:
    inner, outer = _SUMS[op.key]
    result = code(outer, _reduce(op, "ops.sum", code(inner, op.x)))
    if outer != "{}" and op.dtype().is_integer():
        return in_dtype(op, result)
    return _in_own_dtype(op, result)


@rules("ArgMax", "ArgMin")
def arg_extreme(op: Op) -> Code:
    function, axis = f"ops.{op.key.lower()}", op.axis()
    keywords = {"axis": axis} | ({"keepdims": True} if op.attr("keepdims") else {})
    # TensorFlow's backend takes -0.0 for less than 0.0.
    x = code("{} + 0.0", op.x) if op.dtype().is_floating_point() else op.x
    if not op.attr("select_last_index"):
        return call("ops.cast", call(function, x, **keywords), "int64")
    flipped = call(function, call("ops.flip", x, axis=axis), **keywords)
    return call("ops.cast", code("{} - 1 - {}", op.dim(0, axis), flipped), "int64")


@rules("TopK")
def top_k(op: Op) -> Emit:
    axis = op.axis(default=-1)
    keywords: dict[str, Any] = {"axis": axis} if axis != op.rank() - 1 else {}
    keywords |= {} if op.attr("largest") else {"largest": False}
    return Emit(call("top_k", op.x, number(op, 1), **keywords))


@rules("CumSum", "CumProd")
def cumulative(op: Op) -> Code:
    function, axis = f"ops.{op.key.lower()}", number(op, 1)
    if not op.attr("exclusive") and not op.attr("reverse"):
        return call(function, op.x, axis=axis)
    options = {k: True for k in ("exclusive", "reverse") if op.attr(k)}
    return call("cumulative", Raw(function), op.x, axis, **options)
