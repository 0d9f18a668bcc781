"""Transpose nodes: how they are inserted, cancelled, and moved behind the nodes that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.layout.axes import inverse, permuted
from dlbridge.passes.layout.rules import Rule
from dlbridge.passes.matching import Match, match, permutation, producer
from dlbridge.passes.rewriter import Rewriter, Site


def is_transpose(node: ir.Node | None) -> TypeGuard[ir.Node]:
    return is_op(node, "Transpose")


def perm_of(turn: Match) -> list[int]:
    """The permutation of a Transpose node of a value whose rank is known."""
    perm = permutation(turn)
    if perm is None:
        raise ValueError(f"the rank of what {turn.name} transposes has not been inferred")
    return perm


def insert_transpose(
    rewriter: Rewriter, place: ir.Node, what: str, value: ir.Value, perm: Sequence[int], *, name: str | None = None
) -> ir.Value:
    """The transposed value, by a new node before ``place``."""
    stated = {"perm": ir.AttrInt64s("perm", perm)}  # untyped, it is guessed
    made = rewriter.insert(place, "Transpose", what, [value], stated, name=name).outputs[0]
    made.type, made.shape = value.type, permuted(value.shape, perm)
    return made


def move_after(site: Site, perm: Sequence[int], what: str = "transposed", output: int = 0) -> None:
    """Let a node compute an output in another order of axes, and put a Transpose behind it that restores the order."""
    if list(perm) == list(range(len(perm))):
        return
    y = site.node.outputs[output]
    wanted = y.name
    stated = {"perm": ir.AttrInt64s("perm", perm)}
    after = site.rewriter.insert(site.node, "Transpose", what, [None], stated, after=True)
    site.rewriter.substitute(y, after.outputs[0])
    after.replace_input_with(0, y)
    y.shape, y.name = permuted(y.shape, inverse(perm)), f"{wanted}_permuted"


# --- what the rules are made of ---------------------------------------------------------------------------------------


def before_transpose(value: ir.Value) -> ir.Value:
    """The input of the Transpose that makes a value."""
    turn = producer(value, "Transpose")
    if turn is None:
        raise ValueError(f"{value.name} is no transposed value")
    return turn.operand(0)


def read_before(site: Site, slot: int = 0) -> None:
    """Let a node read the input of the Transpose that makes this one of its inputs."""
    site.set_input(slot, before_transpose(site.operand(slot)))


def set_constant(site: Site, slot: int, what: str, numbers: Any) -> None:
    """Replace an input by a constant of int64."""
    made = site.rewriter.constant(f"{site.name}_{what}_permuted", numbers, share=True)
    site.set_input(slot, made)


def is_only_input(site: Site, slot: int) -> bool:
    """Whether an input is transposed and stands in no other slot."""
    value = site.input(slot)
    return producer(value, "Transpose") is not None and sum(v is value for v in site.node.inputs) == 1


def has_same_transpose(value: ir.Value | None, perm: Sequence[int]) -> bool:
    turn = producer(value, "Transpose")
    return turn is not None and perm_of(turn) == list(perm)


# --- cancelling and moving --------------------------------------------------------------------------------------------


def cancel(node: ir.Node, rewriter: Rewriter) -> bool:
    """A Transpose of a Transpose is one Transpose, or nothing."""
    turn = match(node, "Transpose")
    if turn is None:
        return False
    perm = perm_of(turn)
    if perm == list(range(len(perm))):
        return rewriter.bypass(node)
    inner = producer(turn.operand(0), "Transpose")
    if inner is None:
        return False
    first = perm_of(inner)
    node.replace_input_with(0, inner.operand(0))
    node.attributes["perm"] = ir.AttrInt64s("perm", [first[p] for p in perm])
    return True


def sink(transposed: ir.Node, rules: Mapping[tuple[str, str], Rule], rewriter: Rewriter) -> bool:
    """Move a Transpose behind all nodes that read it, where each has a rule that allows it."""
    out = transposed.outputs[0]
    readers = [Site(node, rewriter) for node in out.consumers()]
    if out.is_graph_output() or not readers:
        return False
    perm = perm_of(Match(transposed))
    for reader in readers:
        rule = rules.get((reader.node.domain, reader.node.op_type))
        if rule is None or rule(reader, perm) is None:
            return False
    for reader in readers:
        move = rules[reader.node.domain, reader.node.op_type](reader, perm)  # again: the one before may have changed it
        if move is not None:
            move()
    return True
