"""Reductions, and what orders and sums along an axis."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Op

_FUNCTIONS = {
    "ReduceSum": "ops.sum",
    "ReduceMean": "ops.mean",
    "ReduceMax": "ops.max",
    "ReduceMin": "ops.min",
    "ReduceProd": "ops.prod",
    "ReduceLogSumExp": "ops.logsumexp",
}

#: Reduction -> the template of what is summed, and of what is made of the sum.
_SUMS = {
    "ReduceL1": ("ops.abs({})", "{}"),
    "ReduceL2": ("ops.square({})", "ops.sqrt({})"),
    "ReduceSumSquare": ("ops.square({})", "{}"),
    "ReduceLogSum": ("{}", "ops.log({})"),
}


def _axes(op: Op) -> Any:
    """The axes: None for all; an empty tuple where there is nothing to do."""
    axes = op.numbers(1) if op.has(1) else []
    if axes is None:
        op.refuse("its axes are computed")
    if not axes:
        return () if op.attr("noop_with_empty_axes") else None
    return axes[0] if len(axes) == 1 else tuple(axes)


def _keywords(op: Op, axes: Any) -> dict[str, Any]:
    return {"axis": axes} | ({"keepdims": True} if op.attr("keepdims") else {})


@rules(*_FUNCTIONS)
def reduce(op: Op) -> Code:
    axes, function = _axes(op), _FUNCTIONS[op.node.op_type]
    if axes == ():
        return code("{}", op.x) if op.node.op_type != "ReduceLogSumExp" else code("ops.log(ops.exp({}))", op.x)
    x: Any = op.x
    if op.dtype().is_integer() and op.node.op_type in ("ReduceMean", "ReduceSum", "ReduceProd"):
        return call("ops.cast", call(function, x, **_keywords(op, axes)), op.dtype().name.lower())
    return call(function, x, **_keywords(op, axes))


@rules(*_SUMS)
def reduce_sum_of(op: Op) -> Code:
    inner, outer = _SUMS[op.node.op_type]
    axes, terms = _axes(op), code(inner, op.x)
    return code(outer, terms if axes == () else call("ops.sum", terms, **_keywords(op, axes)))


@rules("ArgMax", "ArgMin")
def arg_extreme(op: Op) -> Code:
    function = f"ops.{op.node.op_type.lower()}"
    axis, rank = op.axis(), op.rank()
    keywords = {"axis": axis} | ({"keepdims": True} if op.attr("keepdims") else {})
    if not op.attr("select_last_index"):
        return call("ops.cast", call(function, op.x, **keywords), "int64")
    last = op.dim(0, axis)
    flipped = call(function, call("ops.flip", op.x, axis=axis), **keywords)
    del rank
    return code("{} - 1 - {}", last, call("ops.cast", flipped, "int64"))


@rules("TopK")
def top_k(op: Op) -> Emit:
    k = op.ints(1)
    if k is None:
        op.refuse("its k is computed from data")
    return Emit(call("top_k", op.x, k[0], axis=op.axis(default=-1), largest=bool(op.attr("largest"))))  # type: ignore[index]


@rules("CumSum")
def cumsum(op: Op) -> Code:
    axis = op.numbers(1)
    if axis is None:
        op.refuse("its axis is computed")
    if not op.attr("exclusive") and not op.attr("reverse"):
        return call("ops.cumsum", op.x, axis=axis[0])  # type: ignore[index]
    exclusive, reverse = bool(op.attr("exclusive")), bool(op.attr("reverse"))
    return call("cumsum", op.x, axis[0], exclusive, reverse)  # type: ignore[index]
