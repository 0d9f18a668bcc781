"""Joins slices of slices along different axes into one: ``mask[:, :, :t][:, :, :, :t]``."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from dlbridge.passes.matching import constant_ints, sole_producer
from dlbridge.passes.node_by_node import rewrite
from dlbridge.passes.rewriter import Site


class _Along(NamedTuple):
    """The axes of a slice, counted from the front, and its steps along them."""

    axes: list[int]
    steps: list[int]


def join_slices(graph: ir.Graph) -> bool:
    """Join a slice with the one that it reads, where nothing else reads that one; in place.

    Returns:
        Whether there were any.
    """
    return rewrite(graph, _join, "Slice")


def _join(site: Site) -> None:
    before = sole_producer(site.input(0), "Slice")
    if before is None or before.node.graph is not site.graph:
        return
    inner = Site(before.node, site.rewriter)
    first, second = _along(inner), _along(site)
    if first is None or second is None or set(first.axes) & set(second.axes):
        return
    rewriter = site.rewriter
    starts, ends = _bounds(site, inner, 1, "starts"), _bounds(site, inner, 2, "ends")
    axes = rewriter.constant(f"{site.name}_axes", [*first.axes, *second.axes])
    steps = rewriter.constant(f"{site.name}_steps", [*first.steps, *second.steps])
    site.set_inputs(inner.operand(0), starts, ends, axes, steps)
    rewriter.erase(inner.node)


def _along(slice_: Site) -> _Along | None:
    """Axes and steps, where they are known and the bounds are int64."""
    size, axes = slice_.rank(), slice_.constant_ints(3)
    if size is None or axes is None:
        return None
    for bound in (slice_.input(1), slice_.input(2)):
        if bound is None or bound.dtype != ir.DataType.INT64:
            return None
    steps = [1] * len(axes) if slice_.input(4) is None else slice_.constant_ints(4)
    return None if steps is None else _Along([axis % size for axis in axes], steps)


def _bounds(site: Site, inner: Site, slot: int, what: str) -> ir.Value:
    """The starts, or ends, of both as one vector."""
    values = [inner.operand(slot), site.operand(slot)]
    known = [constant_ints(value) for value in values]
    if None not in known:
        return site.rewriter.constant(f"{site.name}_{what}", [i for part in known for i in part or ()])
    made = site.op("Concat", what, values, axis=0)
    made.dtype = ir.DataType.INT64
    return made
