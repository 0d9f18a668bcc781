"""Ops that give the same elements another shape; padding."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import NNX, dtype_name, ints, number, rules
from dlbridge.source.arrays.shape import product, reshaped_to
from dlbridge.source.code import Code, call, code, method
from dlbridge.source.op import Op


@rules("Reshape")
def reshape(op: Op) -> Code:
    target = reshaped_to(op)
    if target is None:
        return call("reshape", op.x, ints(op, 1), allow_zero=True if op.attr("allowzero") else None)
    return method("reshape", op.x, *(target or [()]))


@rules("Flatten")
def flatten(op: Op) -> Code:
    rank, axis = op.rank(), op.axis()
    if axis == rank:
        return method("reshape", op.x, -1, 1)
    dims = [op.dim(0, i) for i in range(axis)]
    return method("reshape", op.x, product(dims) if dims else 1, -1)


@rules("Transpose")
def transpose(op: Op) -> Code:
    order = op.attr("perm") or list(reversed(range(op.rank())))
    if order == sorted(order):
        return code("{}", op.x)
    return code("{}.T", op.x) if order == [1, 0] else method("transpose", op.x, *order)


@rules("Pad")
def pad(op: Op) -> Code:
    mode, pads, axes = op.attr("mode"), op.ints(1), op.numbers(3)
    value = (number(op, 2) if op.has(2) else 0) if mode == "constant" else None
    named, filled = None if mode == "constant" else mode, value if isinstance(value, Code) else value or None
    known = pads is not None and all(isinstance(p, int) and p >= 0 for p in pads) and op.shape() is not None
    if not known or (op.has(3) and axes is None):
        axes_given = ints(op, 3) if op.has(3) else None
        return call("pad", op.x, ints(op, 1), mode=named, value=filled, axes=axes_given)
    rank, half = op.rank(), len(pads or []) // 2
    pairs: list[Any] = [(0, 0)] * rank
    for place, axis in enumerate(range(rank) if axes is None else axes):
        pairs[axis % rank] = (pads[place], pads[half + place])  # type: ignore[index]
    if all(pair == (0, 0) for pair in pairs):
        return code("{}", op.x)
    return call("jnp.pad", op.x, pairs, mode=named, constant_values=filled)


@rules("Shape")
def shape(op: Op) -> Code:
    start, end = op.attr("start"), op.attr("end")
    cut = "" if start in (0, None) and end is None else f"[{start or ''}:{'' if end is None else end}]"
    return code(f"jnp.array({{}}.shape{cut}, dtype={dtype_name(op.out_dtype())})", op.x)


@rules("CumSum", "CumProd")
def cumulative(op: Op) -> Code:
    function, axis = f"jnp.{op.key.lower()}", number(op, 1)
    if not op.attr("exclusive") and not op.attr("reverse"):
        dtype = NNX.dtype(op, op.out_dtype()) if op.dtype().is_integer() else None
        return call(function, op.x, axis=axis, dtype=dtype)
    options = {k: True for k in ("exclusive", "reverse") if op.attr(k)}
    return NNX.in_dtype(op, call("cumulative", code(function), op.x, axis, **options))


@rules("ArgMax", "ArgMin")
def arg_extreme(op: Op) -> Code:
    function, axis = f"jnp.{op.key.lower()}", op.axis()
    keep = True if op.attr("keepdims") else None
    if not op.attr("select_last_index"):
        return call(function, op.x, axis=axis, keepdims=keep)
    flipped = call(function, call("jnp.flip", op.x, axis=axis), axis=axis, keepdims=keep)
    return code("{} - 1 - {}", op.dim(0, axis), flipped)
