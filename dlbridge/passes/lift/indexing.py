"""Turns slices of one element whose axis is dropped, as tf2onnx writes ``x[:, 0]``, into an index."""

from __future__ import annotations

from dlbridge.passes.lift.pattern import Lifter, ints, rule
from dlbridge.passes.matching import Match, producer, rank

#: No axis has so many elements; tf2onnx says so that a slice has no end, and takes steps of it.
_BEYOND = 1_000_000_000


@rule("Squeeze")
def index(node: Match, to: Lifter) -> bool:
    """One element of an axis; what is cut of other axes stays a slice."""
    cut, dropped = producer(node.operand(0), "Slice"), ints(node.input(1))
    size = rank(cut.operand(0)) if cut is not None else None
    if cut is None or dropped is None or len(dropped) != 1 or size is None:
        return to.no(node, "it does not drop one known axis of a slice")
    starts, ends = (ints(cut.input(slot)) or [] for slot in (1, 2))
    axes = [axis % size for axis in ints(cut.input(3)) or range(len(starts))]
    steps = ints(cut.input(4)) or [1] * len(starts)
    axis = dropped[0] % size
    if axis not in axes or not len(starts) == len(ends) == len(axes) == len(steps):
        return to.no(node, "where the slice begins and ends is not known")
    place = axes.index(axis)
    if not _is_one(starts[place], ends[place], steps[place]):
        return to.no(node, "the slice has more than one element")
    rest = [(s, e, a, t) for s, e, a, t in zip(starts, ends, axes, steps, strict=True) if a != axis]
    x = cut.operand(0)
    if rest:
        columns = zip(("starts", "ends", "axes", "steps"), zip(*rest, strict=True), strict=True)
        parts = [to.constant(f"{node.name}.{what}", list(numbers)) for what, numbers in columns]
        x = to.op(node, "Slice", "cut", [x, *parts])
    at = to.constant(f"{node.name}.index", starts[place])
    return to.become(node, "Gather", [x, at], {"axis": axis})


def _is_one(start: int, end: int, step: int) -> bool:
    """Whether a slice has one element, or none."""
    if step >= _BEYOND:
        return start >= 0 and end > start
    is_last = start == -1 and end >= _BEYOND
    return step > 0 and (is_last or (end == start + 1 and start != -1))
