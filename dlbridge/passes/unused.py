"""What outputs need, and the removal of the rest: nodes and constants whose values nothing reads."""

from __future__ import annotations

from collections.abc import Container, Iterable

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.passes.matching import is_read, subgraphs


def drop_weights(graph: ir.Graph, *kinds: traits.Kind) -> None:
    """Remove the initializers that nothing reads, of these kinds or of all where none is named; in place."""
    for name, value in list(graph.initializers.items()):
        if (not kinds or traits.kind(value) in kinds) and not is_read(value):
            del graph.initializers[name]


def remove_unused(graph: ir.Graph) -> bool:
    """Remove nodes whose results nobody reads, and constants that nobody reads; weights stay. In place.

    Returns:
        Whether there were any.
    """
    changed = False
    for node in reversed(graph):
        if not any(is_read(value) for value in node.outputs):
            graph.remove(node, safe=True)
            changed = True
            continue
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                changed |= remove_unused(attribute.as_graph())
    for name, value in list(graph.initializers.items()):
        is_part = is_read(value) or value.is_graph_input()
        if not is_part and traits.kind(value) == "constant":
            del graph.initializers[name]
            changed = True
    return changed


def needed(outputs: Iterable[ir.Value], starts: Container[ir.Value] = ()) -> tuple[set[ir.Node], set[ir.Value]]:
    """The nodes that outputs need, and the values that these read; nothing behind a value at which it ``starts``."""
    nodes: set[ir.Node] = set()
    reached: set[ir.Value] = set()
    pending = list(outputs)
    while pending:
        value = pending.pop()
        if value in reached:
            continue
        reached.add(value)
        node = value.producer()
        if value in starts or node is None or node in nodes:
            continue
        nodes.add(node)
        inner = [part for attribute in node.attributes.values() for part in subgraphs(attribute)]
        bodies = [v for body in inner for each in body.all_nodes() for v in each.inputs]
        results = [v for body in inner for v in body.outputs]
        pending += [v for v in (*node.inputs, *bodies, *results) if v is not None]
    return nodes, reached
