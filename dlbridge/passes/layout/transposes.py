"""Transpose nodes: made, cancelled, and moved behind what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.layout.axes import inverse, permuted

#: Does the rewriting that a rule has found to be right.
Move = Callable[[], None]
#: Looks whether a transpose (given by its permutation) of an input of a node can go behind the node.
Rule = Callable[[ir.Node, list[int]], Move | None]


def is_transpose(node: ir.Node | None) -> bool:
    return is_op(node, "Transpose")


def permutation(node: ir.Node) -> list[int]:
    """The permutation of a Transpose node; by default the axes are reversed."""
    attribute = node.attributes.get("perm")
    if attribute is not None:
        return list(attribute.as_ints())
    rank = len(node.inputs[0].shape)  # type: ignore[union-attr, arg-type]
    return list(reversed(range(rank)))


def transpose(value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    """A Transpose node of a value, with its output's dtype and shape."""
    node = ir.node("Transpose", [value], {"perm": ir.AttrInt64s("perm", perm)}, name=name)  # untyped, it is guessed
    out = node.outputs[0]
    out.dtype, out.shape = value.dtype, permuted(value.shape, perm)
    return node


def move_after(node: ir.Node, y: ir.Value, perm: Sequence[int], name: str) -> None:
    """Let a node compute ``y`` in another order of axes, with a Transpose after it that gives ``y`` as it was."""
    wanted, graph = y.name, node.graph
    assert graph is not None
    y.shape = permuted(y.shape, inverse(perm))
    after = transpose(y, perm, name)
    out = after.outputs[0]
    graph.insert_after(node, after)
    ir.convenience.replace_all_uses_with(y, out, replace_graph_outputs=True)
    after.replace_input_with(0, y)
    y.name, out.name = f"{wanted}_permuted", wanted


def cancel(node: ir.Node) -> bool:
    """A Transpose of a Transpose is one Transpose, or nothing."""
    perm, x, y = permutation(node), node.inputs[0], node.outputs[0]
    assert x is not None
    if perm == list(range(len(perm))):
        return _bypass(node, x, y)
    inner = x.producer()
    if inner is None or not is_transpose(inner):
        return False
    first = permutation(inner)
    node.replace_input_with(0, inner.inputs[0])
    node.attributes["perm"] = ir.AttrInt64s("perm", [first[p] for p in perm])
    return True


def _bypass(node: ir.Node, x: ir.Value, y: ir.Value) -> bool:
    """Let what reads ``y`` read ``x``; an output of the graph must stay a value of its own name."""
    if y.is_graph_output():
        if x.is_graph_input() or x.is_graph_output() or x.is_initializer():
            return False
        name = y.name
        ir.convenience.replace_all_uses_with(y, x, replace_graph_outputs=True)
        y.name, x.name = f"{name}_permuted", name
    else:
        ir.convenience.replace_all_uses_with(y, x)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def sink(transposed: ir.Node, rules: Mapping[tuple[str, str], Rule]) -> bool:
    """Move a Transpose behind all nodes that read it, where each has a rule that allows it."""
    out = transposed.outputs[0]
    readers = out.consumers()
    if out.is_graph_output() or not readers:
        return False
    perm = permutation(transposed)
    for reader in readers:
        rule = rules.get((reader.domain, reader.op_type))
        if rule is None or rule(reader, perm) is None:
            return False
    for reader in readers:
        move = rules[reader.domain, reader.op_type](reader, perm)  # again: the one before may have changed things
        if move is not None:
            move()
    return True
