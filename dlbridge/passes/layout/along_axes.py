"""Moves transposes behind ops that work along axes, whose axes then have other numbers."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from dlbridge.passes.layout.axes import without
from dlbridge.passes.layout.rules import Move, rule
from dlbridge.passes.layout.transposes import (
    has_same_transpose,
    is_only_input,
    move_after,
    read_before,
    set_constant,
)
from dlbridge.passes.matching import Match, rank
from dlbridge.passes.rewriter import Site

_REDUCTIONS = {
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
}

#: Ops with an ``axis`` whose output has the shape of the input, or differs along that axis alone.
_AXIS_OPS = {"Softmax", "LogSoftmax", "Hardmax", "Concat", "Split"}


def numbers_of(node: Match, slot: int) -> list[int] | None:
    """The integers of a constant input; None if it is computed."""
    value = node.input(slot)
    if value is None or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]


def with_numbers(site: Site, slot: int, name: str, numbers: int | list[int], rest: list[int]) -> Move:
    """The move for an op whose axes are the numbers of a constant input.

    Args:
        site: The node, whose input 0 is the transposed one.
        slot: The input with the axes.
        name: The name of the new constant.
        numbers: The numbers that it has when the node reads what was transposed.
        rest: The permutation of the transpose behind the node.
    """

    def move() -> None:
        read_before(site)
        set_constant(site, slot, name, numbers)
        move_after(site, rest)

    return move


@rule(*_AXIS_OPS)
def along_axis(site: Site, perm: list[int]) -> Move | None:
    slots = range(len(site.node.inputs)) if site.is_op("Concat") else range(1)
    if not all(has_same_transpose(site.input(slot), perm) for slot in slots):
        return None
    axis = site.integer("axis") % len(perm)

    def move() -> None:
        for slot in slots:
            read_before(site, slot)
        site.set(axis=perm[axis])
        for index in range(len(site.node.outputs)):
            move_after(site, perm, f"transposed_{index}" if index else "transposed", index)

    return move


def _without_axes(site: Site, perm: list[int], axes: list[int]) -> Move:
    """The axes, counted from the front, are the second input; what is left of the transpose comes behind the node."""
    keeps = not site.is_op("Squeeze") and site.integer("keepdims") == 1
    rest = perm if keeps else without(perm, axes)
    return with_numbers(site, 1, "axes", sorted(perm[a] for a in axes), rest)


@rule(*_REDUCTIONS, "Squeeze")
def reduction(site: Site, perm: list[int]) -> Move | None:
    """The axes of Squeeze are input 1, too."""
    axes = numbers_of(site, 1)
    if not axes or not is_only_input(site, 0):
        return None
    return _without_axes(site, perm, [a % len(perm) for a in axes])


class _Pads(NamedTuple):
    """How many elements are added before and after each axis."""

    before: list[int]
    after: list[int]


@rule("Shape")
def sizes(site: Site, perm: list[int]) -> Move | None:
    """The sizes of what is not transposed yet, in the order in which they are asked for."""
    if site.output.is_graph_output():
        return None
    asked = perm[slice(site.integer("start"), site.get("end"))]

    def move() -> None:
        read_before(site)
        first, last = min(asked, default=0), max(asked, default=-1)
        site.set(start=first, end=last + 1)
        if asked != list(range(first, last + 1)):
            places = site.rewriter.constant("order", [axis - first for axis in asked], share=True)
            site.then("Gather", "in_order", [places], axis=0)

    return move


@rule("Pad")
def pad(site: Site, perm: list[int]) -> Move | None:
    amounts = numbers_of(site, 1)
    axes = list(range(len(perm))) if site.input(3) is None else numbers_of(site, 3)
    if axes is None or not is_only_input(site, 0):
        return None
    if amounts is None:  # computed: the axes say where they go
        return with_numbers(site, 3, "axes", [perm[axis % len(perm)] for axis in axes], perm)
    moved = _Pads([0] * len(perm), [0] * len(perm))
    for place, axis in enumerate(axes):
        moved.before[perm[axis % len(perm)]] = amounts[place]
        moved.after[perm[axis % len(perm)]] = amounts[len(axes) + place]

    def move() -> None:
        read_before(site)
        set_constant(site, 1, "pads", moved.before + moved.after)
        if site.input(3) is not None:
            site.set_input(3, None)
        move_after(site, perm)

    return move


@rule("Slice")
def cut(site: Site, perm: list[int]) -> Move | None:
    """Slice."""
    if site.input(3) is not None:
        axes = numbers_of(site, 3)
    else:
        starts = numbers_of(site, 1)
        axes = None if starts is None else list(range(len(starts)))
    if axes is None or not is_only_input(site, 0):
        return None
    return with_numbers(site, 3, "axes", [perm[a % len(perm)] for a in axes], perm)


@rule("Unsqueeze")
def unsqueeze(site: Site, perm: list[int]) -> Move | None:
    """The new axes keep their places; the axes of the input fill the others in their order before the transpose."""
    axes = numbers_of(site, 1)
    if not axes or not is_only_input(site, 0):
        return None
    size = len(perm) + len(axes)
    axes = sorted(a % size for a in axes)
    old = [a for a in range(size) if a not in axes]
    moved = list(range(size))
    for place, source in zip(old, perm, strict=True):
        moved[place] = old[source]

    def move() -> None:
        read_before(site)
        move_after(site, moved)

    return move


@rule("Resize")
def resize(site: Site, perm: list[int]) -> Move | None:
    """``roi``, ``scales`` and ``sizes`` belong to ``axes``, so only these change; they are sorted if all are known."""
    if not is_only_input(site, 0):
        return None
    axes = site.ints("axes") or list(range(len(perm)))
    moved = [perm[a % len(perm)] for a in axes]
    given = [(slot, v) for slot, v in enumerate(site.node.inputs[1:], 1) if v is not None and v.shape != (0,)]

    def move() -> None:
        read_before(site)
        places = moved
        if all(value.const_value is not None for _, value in given):
            places = sorted(moved)
            for slot, value in given:
                _reorder(site, slot, value, moved)
        site.node.attributes["axes"] = ir.AttrInt64s("axes", places)
        move_after(site, perm)

    return move


def _reorder(site: Site, slot: int, value: ir.Value, moved: list[int]) -> None:
    """Put the numbers of an input of Resize, one for each axis, in the order of the axes; ``roi`` has two for each."""
    tensor = value.const_value
    if tensor is None or not tensor.size:
        return
    order = sorted(range(len(moved)), key=moved.__getitem__)
    array = tensor.numpy().reshape(-1, len(moved))[:, order].reshape(-1)
    name = f"{site.name}_{site.node.op_type}_{slot}_permuted"
    site.set_input(slot, site.rewriter.constant(name, array, tensor.dtype, share=True))


@rule("CumSum", "CumProd")
def cumulation(site: Site, perm: list[int]) -> Move | None:
    axes = numbers_of(site, 1)
    if not axes or not is_only_input(site, 0):
        return None
    return with_numbers(site, 1, "axis", perm[axes[0] % len(perm)], perm)


@rule("ArgMax", "ArgMin", "Gather")
def one_along(site: Site, perm: list[int]) -> Move | None:
    """ArgMax and ArgMin, and Gather of one place: the place along an axis is the same wherever the axis stands."""
    gathers = site.is_op("Gather")
    if gathers and (rank(site.input(1)) != 0 or not is_only_input(site, 0)):
        return None
    axis = site.integer("axis") % len(perm)
    drops = gathers or not site.integer("keepdims")
    rest = without(perm, [axis]) if drops else perm

    def move() -> None:
        read_before(site)
        site.set(axis=perm[axis])
        move_after(site, rest)

    return move
