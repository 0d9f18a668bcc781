"""Chains of Concat, as in a DenseNet: each adds one tensor to what the one before joined, so that blocks look alike.

The layers of a DenseNet read all that was computed before them: as lists, each with one more tensor than the last, no
two layers would be the same class.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.ops.names import unique
from dlbridge.passes.standard import graph_pass
from dlbridge.source.blocks import is_weight
from dlbridge.source.definitions import block_class


def grow_concats(graph: ir.Graph) -> None:
    """Let concats read each other and stand around the blocks whose lists they join, in place.

    Args:
        graph: Its shapes are inferred.
    """
    while _move_out(graph):
        pass
    _chain(graph)


def _move_out(graph: ir.Graph) -> bool:
    """Move what joins the inputs of blocks of one class that differ in how many these are into the block around each.

    Returns:
        Whether anything moved.
    """
    name_of, known = block_class(graph), traits.blocks(graph)
    counts: dict[str, dict[str, tuple[int, ...]]] = {}  # class -> path -> how many inputs the block joins
    joins: dict[str, list[ir.Node]] = {}  # class -> what joins them
    for path in {path: None for node in graph for path in _around(traits.scope(node))}:
        counts.setdefault(name_of(path), {})[path] = ()
    for node in _concats(graph):
        path = traits.scope(node)
        if path and not any(v is None or is_weight(v) or _is_made_in(path, v) for v in node.inputs):
            counts[name_of(path)][path] += (len(node.inputs),)
            joins.setdefault(name_of(path), []).append(node)
    names = {node.name or "" for node in graph}
    moved = [n for kind, nodes in joins.items() if len(set(counts[kind].values())) > 1 for n in nodes]
    for node in moved:
        outer = traits.scope(node).rpartition(".")[0]
        if outer not in known and (traits.scope(node).rpartition(".")[2]).isdigit():
            outer = outer.rpartition(".")[0]  # a list of modules computes nothing
        node.name = unique(".".join([outer, (node.name or "").rpartition(".")[2]]).lstrip("."), names)
        for trait in (traits.VARIABLE, traits.TOWARDS):  # what it was called is a name within the block
            node.metadata_props.pop(trait, None)
        node.outputs[0].metadata_props.pop(traits.CALLED, None)
    return bool(moved)


def _chain(graph: ir.Graph) -> None:
    """A concat whose first inputs are all those of another one in its block, before it, reads that one's output."""
    before: dict[tuple[ir.Value | str | int | None, ...], ir.Value] = {}
    for node in _concats(graph):
        output, inputs = node.outputs[0], tuple(node.inputs)
        place = (traits.scope(node), node.attributes["axis"].as_int() % len(output.shape or ()))
        for count in range(len(inputs) - 1, 1, -1):
            joined = before.get((*place, *inputs[:count]))
            if joined is not None:
                for index, value in enumerate([joined, *inputs[count:]]):
                    node.replace_input_with(index, value)
                node.resize_inputs(1 + len(inputs) - count)
                break
        before.setdefault((*place, *inputs), output)


def _concats(graph: ir.Graph) -> Iterator[ir.Node]:
    """The concats of tensors; those of sizes are arithmetic."""
    for node in graph:
        if is_op(node, "Concat") and len(node.outputs[0].shape or ()) > 1:
            yield node


def _around(path: str) -> list[str]:
    """A path and the paths of all blocks around it but the whole model."""
    return list(accumulate(path.split("."), lambda outer, part: f"{outer}.{part}")) if path else []


def _is_made_in(path: str, value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and f"{traits.scope(node)}.".startswith(f"{path}.")


GROW_CONCATS = graph_pass(grow_concats, "Let a list of tensors grow where it is joined again and again.")
