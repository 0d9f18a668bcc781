"""Cumulative maximum, minimum and log-sum-exp along an axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.control import scan
from dlbridge.frameworks.pytorch.reading import Op, reads
from dlbridge.frameworks.pytorch.tensors import is_float, rank, sizes, with_sizes


def _along(op: Op, x: ir.Value, dim: int) -> tuple[ir.Value, list[int]]:
    """(x with the axis moved to the front, the permutation that moves it back)."""
    axis = dim % rank(x)
    order = [axis, *(i for i in range(rank(x)) if i != axis)]
    return op.transpose(x, order), [int(i) for i in np.argsort(order)]


def _filled(op: Op, number: object, dtype: ir.DataType, of: list) -> ir.Value:
    return with_sizes(op("Expand", op.number(number, dtype), of), of)


@reads("aten.cummax", "aten.cummin")
def extreme(op: Op, x: ir.Value, dim: int) -> list[ir.Value]:
    """(cumulative extreme, index of its last occurrence); a NaN propagates."""
    front, back = _along(op, x, dim)
    largest, of = op.name == "cummax", sizes(front)[1:]
    limits = np.finfo(x.dtype.numpy()) if is_float(x) else np.iinfo(x.dtype.numpy())  # type: ignore[union-attr]
    if is_float(x):
        first = -np.inf if largest else np.inf
    elif largest:
        first = limits.min
    else:
        first = limits.max
    states = [_filled(op, first, x.dtype, of), _filled(op, 0, ir.DataType.INT64, of), op.number(0, ir.DataType.INT64)]

    def step(best: ir.Value, where: ir.Value, t: ir.Value, now: ir.Value) -> list[ir.Value]:
        newer = op("GreaterOrEqual" if largest else "LessOrEqual", now, best)
        if is_float(x):
            newer = op("Or", newer, op("IsNaN", now))
        kept = with_sizes(op("Where", newer, now, best), of)
        place = with_sizes(op("Where", newer, t, where), of)
        return [kept, place, op("Add", t, 1), kept, place]

    *_, values, places = scan(op, [front], states, step)
    return [op.transpose(values, back), op.transpose(places, back)]


@reads("aten.logcumsumexp")
def log_of_sum(op: Op, x: ir.Value, dim: int) -> ir.Value:
    front, back = _along(op, x, dim)
    of = sizes(front)[1:]

    def step(total: ir.Value, now: ir.Value) -> list[ir.Value]:
        larger = op("Max", total, now)
        distance = op("Where", op("Equal", total, now), op.number(0, x.dtype), op("Abs", op("Sub", total, now)))
        made = with_sizes(op("Add", larger, op("Softplus", op("Neg", distance))), of)
        return [made, made]

    *_, sums = scan(op, [front], [_filled(op, -np.inf, x.dtype, of)], step)  # type: ignore[arg-type]
    return op.transpose(sums, back)
