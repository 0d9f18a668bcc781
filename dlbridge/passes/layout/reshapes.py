"""Transposes behind Reshape and Flatten: where axes that are merged or cut stay side by side; and into weights, where a
Flatten meets a Linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.ops.keys import is_op
from dlbridge.passes.layout.axes import inverse
from dlbridge.passes.layout.elementwise import insert_reshape
from dlbridge.passes.layout.rules import Move, rule
from dlbridge.passes.layout.transposes import insert_transpose, move_after, set_constant
from dlbridge.passes.matching import is_read_once, producer, static_shape, stored
from dlbridge.passes.rewriter import Site

#: Ops (with their domains) between a Flatten and a Linear that do not care which feature is which.
_FEATURE_WISE = {
    *(("", op) for op in ("Relu", "Dropout", "Identity", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "HardSwish", "Swish")),
    *(("", op) for op in ("Elu", "Clip")),
    *((extension.DOMAIN, op) for op in extension.NOISE_OPS),
}

Dim = int | str | None


def _dims(shape: ir.Shape | None) -> list[Dim] | None:
    """The sizes, numbers and names; None where one is not known."""
    if shape is None:
        return None
    dims: list[Dim] = [d if isinstance(d, int) else d.value for d in shape]
    return None if None in dims else dims


@rule("Reshape")
def reshape(site: Site, perm: list[int]) -> Move | None:
    """``reshape(transpose(x))`` with axes merged or cut in groups."""
    return _regroup(site, perm) or _ones(site, perm)


@rule("Flatten")
def flatten(site: Site, perm: list[int]) -> Move | None:
    """``flatten(transpose(x))``: dropped where only axes of size 1 move, else into the weights of the next Linear."""
    return _ones(site, perm) or _into_linear(site, perm)


class _Source(NamedTuple):
    """The value before a transpose, its sizes, those behind the transpose, and those of the node that reads it."""

    inner: ir.Value
    before: list[Dim]
    between: list[Dim]
    after: list[Dim]


def _source(site: Site) -> _Source | None:
    value = site.operand(0)
    turn = producer(value, "Transpose")
    if turn is None:
        return None
    inner = turn.operand(0)
    before, between, after = _dims(inner.shape), _dims(value.shape), _dims(site.output.shape)
    if before is None or between is None or after is None:
        return None
    return _Source(inner, before, between, after)


def _ones(site: Site, perm: list[int]) -> Move | None:
    """The transpose moves axes of size 1 only: the numbers are in the same order without it."""
    found = _source(site)
    if found is None:
        return None
    order = [axis for axis in perm if found.before[axis] != 1]
    if order != sorted(order):
        return None
    if site.is_op("Flatten") and not _keeps_flatten(site, found.before, found.after):
        return None
    if site.is_op("Reshape") and _copies_dims(site):
        return None

    def move() -> None:
        site.set_input(0, found.inner)

    return move


def _keeps_flatten(site: Site, before: list[Dim], after: list[Dim]) -> bool:
    axis = site.integer("axis")
    if axis < 0:
        axis %= len(before) + 1
    head = [d for d in before[:axis] if d != 1]
    rows = [] if after[0] == 1 else [after[0]]
    return head == rows or (axis == 1 and before[0] == after[0])


def _copies_dims(site: Site) -> bool:
    """Whether a Reshape has a 0 that copies a size other than the first of an unmoved axis."""
    tensor = site.operand(1).const_value
    return tensor is None or bool((tensor.numpy() == 0).any())


def _groups(source: Sequence[Dim], target: Sequence[Dim]) -> list[tuple[list[int], list[int]]] | None:
    """Axes of the source and of the target, in groups of the same number of elements; None when not known."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        left, right = [], []
        if i < len(source):
            left, i = [i], i + 1
        if j < len(target):
            right, j = [j], j + 1
        while (sizes := (_size(source, left), _size(target, right))) and sizes[0] != sizes[1]:
            a, b = sizes
            if a is None or b is None or isinstance(a, str) or isinstance(b, str):
                return None
            if a < b and i < len(source):
                left.append(i)
                i += 1
            elif b < a and j < len(target):
                right.append(j)
                j += 1
            else:
                return None
        groups.append((left, right))
    return groups


def _size(dims: Sequence[Dim], axes: list[int]) -> Dim:
    """The product of sizes; None where one of several is a name."""
    sizes = [dims[a] for a in axes]
    if len(sizes) == 1:
        return sizes[0]
    numbers = [size for size in sizes if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(sizes) else None


def _regroup(site: Site, perm: list[int]) -> Move | None:
    found = _source(site)
    if found is None:
        return None
    after = found.after
    groups = _groups(found.between, after)
    if groups is None or sum(not isinstance(d, int) for d in after) > 1 or not all(left for left, _ in groups):
        return None
    # Where each group starts among the axes before the transpose; inside a group the axes must follow each other there.
    starts = []
    for left, _ in groups:
        sources = [perm[a] for a in left]
        if sources != list(range(sources[0], sources[0] + len(sources))):
            return None
        starts.append(sources[0])
    order = sorted(range(len(groups)), key=lambda g: starts[g])
    axes = [axis for g in order for axis in groups[g][1]]  # the output's axes, in the order before the transpose
    shape = [after[a] for a in axes]

    def move() -> None:
        site.set_input(0, found.inner)
        set_constant(site, 1, "shape", [d if isinstance(d, int) else -1 for d in shape])
        site.take("allowzero")
        move_after(site, inverse(axes))

    return move


def _into_linear(site: Site, perm: list[int]) -> Move | None:
    """The features of a Linear come in another order: so do the columns of its weight."""
    found = _source(site)
    if found is None or site.integer("axis") != 1 or perm[0] != 0:
        return None
    linear = _next_linear(site.output)
    sizes = [d for d in found.between[1:] if isinstance(d, int)]
    if linear is None or len(sizes) < len(found.between) - 1:
        return None
    at = Site(linear, site.rewriter)
    weight = at.operand(1)
    given = static_shape(weight)
    if given is None or stored(weight) is None:
        return None
    rows = given[0]

    def move() -> None:
        opened = insert_reshape(at, weight, [rows, *sizes])
        moved = insert_transpose(at.rewriter, linear, "weight_permuted", opened, inverse(perm))
        at.set_input(1, insert_reshape(at, moved, [rows, math.prod(sizes)]))
        site.set_input(0, found.inner)

    return move


def _next_linear(value: ir.Value) -> ir.Node | None:
    """The Linear that reads a value, as it is or behind ops that do not care which feature is which."""
    while is_read_once(value):
        (node,) = value.consumers()
        if node.inputs[0] is not value:
            return None
        if is_op(node, "Linear"):
            return node
        if (node.domain, node.op_type) not in _FEATURE_WISE:
            return None
        value = node.outputs[0]
    return None
