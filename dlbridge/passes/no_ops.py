"""Removes nodes that return their input."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlbridge.passes.matching import Match, match, producer, rank
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.sizes import shape_of

_HANDING_ON = (
    *("Identity", "Cast", "Transpose", "Concat", "Sum", "Max", "Min", "Mean"),
    *("Reshape", "Expand", "Flatten", "Pad", "Mul", "Div"),
)
#: Ops that give the same numbers in another shape.
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def remove_no_ops(graph: ir.Graph) -> bool:
    """Remove the nodes that return their input unchanged, in place.

    Returns:
        Whether there were any.
    """
    rewriter = Rewriter(graph)
    for node in list(graph.all_nodes()):
        remove_no_op(node, rewriter)
    return rewriter.changed


def remove_no_op(node: ir.Node, rewriter: Rewriter) -> None:
    """Let the readers of a node that returns its input read that input instead."""
    found = match(node, *_HANDING_ON)
    if found is not None and _is_no_op(found):
        rewriter.bypass(node)
        return
    shaped = match(node, *RESHAPES)
    if shaped is not None and not shaped.output.is_graph_output():
        _take_back(shaped, rewriter)


def _take_back(reshape: Match, rewriter: Rewriter) -> None:
    """Let the readers of a reshape read what earlier ones have had in its shape."""
    wanted = shape_of(reshape.output)
    if wanted is None or None in wanted:
        return
    for value in earlier_forms(reshape.operand(0)):
        if shape_of(value) == wanted:
            reshape.output.replace_all_uses_with(value)
            rewriter.erase(reshape.node)
            return


def earlier_forms(value: ir.Value) -> Iterator[ir.Value]:
    """The values that reshapes have made this one of, the last first: the same numbers in other shapes."""
    before = producer(value, *RESHAPES)
    while before is not None:
        value = before.operand(0)
        yield value
        before = producer(value, *RESHAPES)


def _is_no_op(node: Match) -> bool:
    source = node.input(0)
    if source is None or len(node.node.outputs) != 1:
        return False
    match node.key:
        case "Identity":
            return True
        case "Cast":
            return source.dtype is not None and source.dtype == node.integer("to")
        case "Transpose":
            perm = node.ints("perm")
            return perm is not None and perm == sorted(perm)
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(node.node.inputs) == 1
        case "Reshape" | "Expand" | "Flatten":
            sizes = shape_of(source)
            return sizes is not None and None not in sizes and sizes == shape_of(node.output)
        case "Pad":
            pads = node.constant_array(1)
            return pads is not None and not pads.any()
        case "Mul" | "Div":
            return node.constant_scalar(1) == 1 and _has_rank_of(node.input(1), source)
    return False


def _has_rank_of(factor: ir.Value | None, source: ir.Value) -> bool:
    """Whether broadcasting a factor gives the result no more axes than the source has."""
    found, wanted = rank(factor), rank(source)
    return found == 0 or (found is not None and wanted is not None and found <= wanted)
