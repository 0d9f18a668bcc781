"""Buckets of relative positions, as T5 and its like compute them in a dozen operations, are one ``RelativeBuckets``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.passes.lift.pattern import Lifter, rule, scalar, with_scalar
from dlbridge.passes.matching import Match, dtype_of, producer
from dlbridge.passes.sizes import shape_of


@dataclass(frozen=True)
class _Buckets:
    """Buckets of distances: the distances, how many buckets, and the distance from which on all are in the last."""

    distance: ir.Value
    count: int
    limit: int


@rule("Add")
def buckets_of_both_sides(node: Match, to: Lifter) -> bool:
    """(p > 0) * count + the bucket of |p|."""
    for side, within in node.orders():
        found = _of_distances(producer(within, "Where"))
        size = None if found is None else producer(found.distance, "Abs")
        if found is None or size is None:
            continue
        times = with_scalar(producer(side, "Mul"), found.count)
        behind = None if times is None or times[1] != found.count else producer(times[0], "Cast")
        if behind is not None and _is_positive(behind.operand(0), size.operand(0)):
            return _become(node, to, size.operand(0), 2 * found.count, found, both=True)
    return to.no(node, "it is not (p > 0) * count + the bucket of |p|")


@rule("Where")
def buckets_of_one_side(node: Match, to: Lifter) -> bool:
    """The bucket of -min(p, 0)."""
    found = _of_distances(node)
    back = None if found is None else producer(found.distance, "Neg")
    below = None if back is None else with_scalar(producer(back.operand(0), "Min"), 0.0)
    if found is None or below is None:
        return to.no(node, "it is not the bucket of -min(p, 0)")
    return _become(node, to, below[0], found.count, found, both=False)


def _become(node: Match, to: Lifter, positions: ir.Value, count: int, found: _Buckets, *, both: bool) -> bool:
    if shape_of(node.output) != shape_of(positions) or dtype_of(node.output) != dtype_of(positions):
        return to.no(node, "the result is not like the positions")
    attributes = {"num_buckets": count, "max_distance": found.limit, "bidirectional": int(both)}
    return to.become(node, "RelativeBuckets", [positions], attributes, domain=extension.DOMAIN)


def _is_positive(value: ir.Value, x: ir.Value) -> bool:
    """Whether a value is x > 0."""
    above, below = producer(value, "Greater"), producer(value, "Less")
    if above is not None:
        return above.operand(0) is x and scalar(above.operand(1)) == 0
    return below is not None and below.operand(1) is x and scalar(below.operand(0)) == 0


def _of_distances(node: Match | None) -> _Buckets | None:
    """What a node computes, if that is: where d < n, d, else min(n + int(log(d / n) / log(limit / n) * n), 2 n - 1)."""
    near = None if node is None else producer(node.operand(0), "Less")
    exact = None if near is None else scalar(near.operand(1))
    if node is None or near is None or exact is None or exact < 1 or near.operand(0) is not node.operand(1):
        return None
    distance = near.operand(0)
    capped = with_scalar(producer(node.operand(2), "Min"))
    moved = None if capped is None else with_scalar(producer(capped[0], "Add"))
    if capped is None or moved is None or moved[1] != exact or capped[1] != 2 * exact - 1:
        return None
    steps = producer(moved[0], "Cast")
    span = None if steps is None else _span(steps.operand(0), distance, exact)
    limit = None if span is None else round(exact * math.exp(span))
    if limit is None or limit <= exact or np.float32(math.log(limit / exact)) != np.float32(span):
        return None
    return _Buckets(distance, int(2 * exact), limit)


def _span(value: ir.Value, distance: ir.Value, exact: float) -> float | None:
    """The number by which log(distance / exact) is divided before it is multiplied by exact, in float32."""
    times = with_scalar(producer(value, "Mul"))
    parts = None if times is None or times[1] != exact else with_scalar(producer(times[0], "Div"))
    logarithm = None if parts is None else producer(parts[0], "Log")
    ratio = None if logarithm is None else with_scalar(producer(logarithm.operand(0), "Div"))
    number = None if ratio is None or ratio[1] != exact else producer(ratio[0], "Cast")
    if parts is None or number is None or number.operand(0) is not distance:
        return None
    return parts[1] if dtype_of(number.output) == ir.DataType.FLOAT else None
