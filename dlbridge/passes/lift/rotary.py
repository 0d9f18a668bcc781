"""Rotary embedding: x cos + (its halves, turned) sin is one ``RotateHalves``."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.passes.lift.pattern import Lifter, rule
from dlbridge.passes.matching import Match, producer, sole_producer, static_size
from dlbridge.passes.sizes import shape_of


@rule("Add")
def rotary(node: Match, to: Lifter) -> bool:
    """x * cos + concat(-x[..., h:], x[..., :h]) * sin, as Llama and its like have it."""
    for first, second in node.orders():
        plain, turned = producer(first, "Mul"), producer(second, "Mul")
        if plain is None or turned is None:
            continue
        for x, cos in plain.orders():
            for halves, sin in turned.orders():
                if _is_turned(halves, x) and shape_of(node.output) == shape_of(x) and _fit(cos, sin, x):
                    return to.become(node, "RotateHalves", [x, cos, sin], domain=extension.DOMAIN)
    return to.no(node, "it is not x cos + (its halves, turned) sin")


def _fit(cos: ir.Value, sin: ir.Value, x: ir.Value) -> bool:
    """Whether cosines and sines are as long as the last axis of x."""
    size = static_size(x, -1)
    return size is not None and static_size(cos, -1) == size and static_size(sin, -1) == size


def _is_turned(value: ir.Value, x: ir.Value) -> bool:
    """Whether a value is concat(-x[..., h:], x[..., :h]) of the last axis."""
    size, rank = static_size(x, -1), len(x.shape or ())
    joined = producer(value, "Concat")
    if size is None or size % 2 or joined is None or len(joined.operands) != 2:
        return False
    if joined.integer("axis") not in (-1, rank - 1):
        return False
    negative = sole_producer(joined.operand(0), "Neg")
    if negative is None:
        return False
    half = size // 2
    return _is_part(negative.operand(0), x, half, size) and _is_part(joined.operand(1), x, 0, half)


def _is_part(value: ir.Value, x: ir.Value, start: int, end: int) -> bool:
    """Whether a value is x[..., start:end]: a slice, or a half of a split."""
    rank, size = len(x.shape or ()), static_size(x, -1)
    split = producer(value, "Split")
    if split is not None:
        place = list(split.node.outputs).index(value)
        sizes = [static_size(each, -1) for each in split.node.outputs]
        return (
            split.operand(0) is x
            and split.integer("axis") in (-1, rank - 1)
            and sizes == [end - start] * 2
            and place * (end - start) == start
        )
    part = producer(value, "Slice")
    if part is None or part.operand(0) is not x:
        return False
    begin, stop, axes, steps = (part.constant_ints(slot) for slot in (1, 2, 3, 4))
    if begin is None or stop is None or axes not in ([rank - 1], [-1]) or (part.input(4) is not None and steps != [1]):
        return False
    assert size is not None
    first, last = (place + size if place < 0 else place for place in (begin[0], stop[0]))
    return (first, min(last, size)) == (start, end)
