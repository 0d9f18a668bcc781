"""An ``If`` whose condition is a constant is the branch that is taken."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.ops.names import unique
from dlbridge.passes.constants import constant


def take_known_branch(graph: ir.Graph, node: ir.Node) -> None:
    """Put the nodes of the branch that a constant condition takes in the place of an ``If``; in place.

    Args:
        graph: The main graph, in which names are unique.
        node: Any node of it or of its subgraphs; what is no ``If`` on a constant stays as it is.
    """
    if not is_op(node, "If") or node.graph is None:
        return
    condition = constant(node.inputs[0])
    if condition is None or condition.size != 1:
        return
    taken = "then_branch" if condition.numpy().item() else "else_branch"
    branch = node.attributes[taken].as_graph()
    body, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    for inner in body:
        branch.remove(inner)
    _name_apart(graph, node, body)
    node.graph.insert_before(node, body)
    for output, result in zip(node.outputs, results, strict=True):
        if output.is_graph_output():  # which a node of its own gives; what does nothing goes later
            result = _copied(node, result)
            result.name, output.name = output.name, f"{output.name}.replaced"
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)


def _copied(node: ir.Node, value: ir.Value) -> ir.Value:
    """What a new ``Identity`` before the node gives."""
    copy = ir.Node("", "Identity", [value], name=node.name)
    copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
    node.graph.insert_before(node, copy)  # type: ignore[union-attr]
    return copy.outputs[0]


def _name_apart(graph: ir.Graph, node: ir.Node, body: list[ir.Node]) -> None:
    """Give what moves into the graph names that nothing else there has."""
    inside = set(body)
    values = {v.name for v in graph.inputs} | set(graph.initializers)
    nodes = set()
    for other in graph.all_nodes():
        if other is not node and other not in inside:
            values.update(v.name for v in other.outputs)
            nodes.add(other.name)
    for inner in body:
        inner.name = unique(inner.name or inner.op_type, nodes)
        for value in inner.outputs:
            value.name = unique(value.name or inner.op_type, values)
