"""Moves transposes behind elementwise ops, of one tensor and of several that broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.ops.keys import op_key
from dlbridge.passes.layout.axes import inverse, permuted, to_first
from dlbridge.passes.layout.rules import RULES, Move, rule
from dlbridge.passes.layout.transposes import (
    before_transpose,
    has_same_transpose,
    insert_transpose,
    is_only_input,
    move_after,
    perm_of,
    read_before,
)
from dlbridge.passes.matching import is_read, match, producer, static_shape, stored
from dlbridge.passes.rewriter import Rewriter, Site

#: Ops whose operands can be asked whether they follow a transpose, too.
_ELEMENTWISE = UNARY_OPS | BROADCASTING_OPS
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@rule(*UNARY_OPS)
def unary(site: Site, perm: list[int]) -> Move | None:
    made = [value for value in site.node.outputs if is_read(value)]
    if made != [site.output] or not is_only_input(site, 0):
        return None

    def move() -> None:
        read_before(site)
        move_after(site, perm)

    return move


@rule(*extension.NOISE_OPS, domain=extension.DOMAIN)
def dropout(site: Site, perm: list[int]) -> Move | None:
    """Elements that share a decision still do where their axes are moved."""
    rest = unary(site, perm)
    if rest is None:
        return None
    moved = sorted(perm[axis] for axis in extension.shared_axes(site.node))

    def move() -> None:
        if moved:
            site.node.attributes["axes"] = ir.AttrInt64s("axes", moved)
        rest()

    return move


@rule(*BROADCASTING_OPS)
@rule(*extension.elementwise_ops(), domain=extension.DOMAIN)
def broadcasting(site: Site, perm: list[int]) -> Move | None:
    """The other inputs are the same transpose or elementwise ops of it, hold one number, or are constants and weights
    that can be permuted."""
    y = site.output
    if y.shape is None or len(y.shape) != len(perm):
        return None
    if not all(_follows(value, perm) or _is_computed_from(value, perm, site.node) for value in site.node.inputs):
        return None

    def move() -> None:
        for value in dict.fromkeys(site.node.inputs):
            if value is not None and not _follows(value, perm):
                _move_behind(value, perm, site.rewriter)
        for slot, value in enumerate(site.node.inputs):
            if value is not None:
                site.set_input(slot, _reordered(site, value, perm))
        move_after(site, perm)

    return move


def _follows(value: ir.Value | None, perm: list[int]) -> bool:
    """Whether there is an operand in the order of axes before the transpose, for one in the order behind it."""
    return (
        has_same_transpose(value, perm)
        or is_number(value)
        or _is_permutable(value, len(perm))
        or _permuted_already(value, perm) is not None
        or _thin(value, inverse(perm)) is not None
    )


def _is_computed_from(value: ir.Value | None, perm: list[int], reader: ir.Node, depth: int = 8) -> bool:
    """Whether a few elementwise ops compute a value from such transposes, as ``tanh(x)`` in ``x + tanh(x)``, for a node
    alone."""
    node = value.producer() if value is not None else None
    if value is None or node is None or not depth or op_key(node) not in _ELEMENTWISE or node.graph is not reader.graph:
        return False
    if len(node.outputs) != 1 or set(value.consumers()) != {reader} or value.is_graph_output():
        return False
    if value.shape is None or len(value.shape) != len(perm):
        return False
    operands = node.inputs[:1] if op_key(node) in UNARY_OPS else node.inputs
    others = [each for each in operands if not _follows(each, perm)]
    is_reached = bool(others) or any(has_same_transpose(each, perm) for each in operands)
    return is_reached and all(_is_computed_from(each, perm, node, depth - 1) for each in others)


def _move_behind(value: ir.Value, perm: list[int], rewriter: Rewriter) -> None:
    """Move the transposes that a value is computed from behind the node that makes it."""
    node = value.producer()
    assert node is not None
    if op_key(node) in UNARY_OPS and not _follows(node.inputs[0], perm):
        assert node.inputs[0] is not None
        _move_behind(node.inputs[0], perm, rewriter)
    move = RULES[node.domain, node.op_type](Site(node, rewriter), perm)
    assert move is not None
    move()


def _reordered(site: Site, value: ir.Value, perm: list[int]) -> ir.Value:
    """The operand in the order of axes before the transpose."""
    if has_same_transpose(value, perm):
        return before_transpose(value)
    there = _permuted_already(value, perm)
    if there is not None:
        return there
    shape = _thin(value, inverse(perm))
    if shape is not None:
        return _reshaped(site, value, shape)
    if is_number(value):
        return value
    return _permute_weight(site, value, inverse(perm))


def _permuted_already(value: ir.Value | None, perm: Sequence[int]) -> ir.Value | None:
    """The channels-last form of a value, if a node computes it already: of an input that a convolution reads too, say.

    Only from channels-first to channels-last, and only if these differ: otherwise a transpose could go back and forth.
    """
    if value is None or value.is_initializer() or len(perm) < 4 or list(perm) != to_first(len(perm)):
        return None
    wanted = inverse(perm)
    for node in value.consumers():
        turn = match(node, "Transpose")
        if turn is not None and perm_of(turn) == wanted and turn.output.uses():
            return turn.output
    return None


def _thin(value: ir.Value | None, perm: Sequence[int]) -> ir.Shape | None:
    """The shape of the transposed value, where only axes of size 1 move among the others: its numbers stay in order.

    An embedding that is added to all places of an image is such a value.
    """
    if value is None or value.is_initializer() or value.shape is None or len(value.shape) != len(perm):
        return None
    order = [axis for axis in perm if value.shape[axis] != 1]
    known = [d for d in value.shape if isinstance(d, int) and d > 0]
    if order != sorted(order) or len(order) == len(perm) or len(known) < len(perm) - 1:
        return None
    return permuted(value.shape, perm)


def _reshaped(site: Site, value: ir.Value, shape: ir.Shape) -> ir.Value:
    """The value's numbers in another shape, from where they last stood in any."""
    before = producer(value, *_RESHAPES)
    while before is not None:
        value = before.operand(0)
        before = producer(value, *_RESHAPES)
    made = insert_reshape(site, value, [d if isinstance(d, int) else -1 for d in shape], "reshaped")
    made.shape = shape
    return made


def is_number(value: ir.Value | None) -> bool:
    """Whether a value has one element and no axes to move."""
    return value is None or (value.shape is not None and all(d == 1 for d in value.shape) and len(value.shape) <= 1)


def _is_permutable(value: ir.Value | None, rank: int) -> bool:
    """A weight, or a value computed from weights alone, of at most that rank and with known sizes."""
    if value is None or value.shape is None or len(value.shape) > rank:
        return False
    return value.is_initializer() and not value.is_graph_input()


def _permute_weight(site: Site, value: ir.Value, perm: Sequence[int]) -> ir.Value:
    """A weight, broadcast to the rank of the permutation, with its axes in the new order.

    A constant is rearranged now; a weight that trains stays as it is and is rearranged by nodes.
    """
    tensor, own = stored(value), static_shape(value)
    if tensor is None or own is None:
        raise ValueError(f"{value.name} is no weight")
    shape = [1] * (len(perm) - len(own)) + own
    wanted = [shape[axis] for axis in perm]
    while len(wanted) > 1 and wanted[0] == 1:
        wanted = wanted[1:]
    if traits.kind(value) == "constant":
        array = np.ascontiguousarray(tensor.numpy().reshape(shape).transpose(perm).reshape(wanted))
        return site.rewriter.constant(f"{value.name}_permuted", array, tensor.dtype, share=True)
    if math.prod(shape) == max(shape):
        return value if wanted == own else insert_reshape(site, value, wanted)
    full = value if len(shape) == len(own) else insert_reshape(site, value, shape)
    return insert_transpose(site.rewriter, site.node, "weight_permuted", full, perm)


def insert_reshape(site: Site, value: ir.Value, shape: Sequence[int], what: str = "weight_reshaped") -> ir.Value:
    """The value's numbers in another shape, by a new node before that of the site."""
    target = site.rewriter.constant(f"{value.name}_shape", shape, share=True)
    made = site.op("Reshape", what, [value, target])
    made.type, made.shape = value.type, ir.Shape(list(shape))
    return made
