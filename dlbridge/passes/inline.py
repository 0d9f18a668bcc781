"""``expand``: a call of an ONNX function, replaced by the nodes of its body."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from dlbridge.ops.names import unique


def expand(node: ir.Node, function: ir.Function) -> list[ir.Node]:
    """Replace ``node`` in its graph by the nodes of ``function``, which is used up.

    New nodes and values are named after the node (``block.act_Mul``); the node's outputs keep their names.

    Args:
        node: A node in a graph.
        function: What the node means: a copy of its own, not shared with a model or another call.

    Returns:
        The new nodes.
    """
    graph = node.graph
    assert graph is not None
    _bind_attributes(node, function)
    body = list(function)
    for index, formal in enumerate(function.inputs):
        actual = node.inputs[index] if index < len(node.inputs) else None
        for use in list(formal.uses()):
            use.node.replace_input_with(use.idx, actual)
    formal_inputs = {id(v): i for i, v in enumerate(function.inputs)}
    results: list[ir.Value] = []
    for result in function.outputs:
        if id(result) in formal_inputs:  # an input handed through
            copy = ir.Node("", "Identity", [node.inputs[formal_inputs[id(result)]]])
            body.append(copy)
            result = copy.outputs[0]
        results.append(result)
    function.outputs.clear()
    for new in function:
        function.remove(new)
    used = {v.name for n in graph for v in n.outputs} | set(graph.initializers) | {v.name for v in graph.inputs}
    _rename(body, node.name or node.op_type, used, {n.name for n in graph})
    graph.insert_after(node, body)
    for old, result in zip(node.outputs, results, strict=False):
        result.type, result.shape, name = old.type, old.shape, old.name
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        old.name = f"{name}.replaced"
        result.name = name
    graph.remove(node, safe=True)
    return body


def _bind_attributes(node: ir.Node, function: ir.Function) -> None:
    """Put the call's attributes (or the function's defaults) where the body refers to them."""
    for inner in function.all_nodes():
        for name, attribute in list(inner.attributes.items()):
            if not attribute.is_ref():
                continue
            wanted = attribute.ref_attr_name or name
            given = node.attributes.get(wanted) or function.attributes.get(wanted)
            if given is None or given.value is None:
                del inner.attributes[name]
            else:
                inner.attributes[name] = ir.Attr(name, given.type, given.value)


def _rename(body: Iterable[ir.Node], prefix: str, values: set[str], nodes: set[str]) -> None:
    """Put a prefix before the names of nodes and of what they make, in their subgraphs too."""
    for node in body:
        node.name = unique(f"{prefix}_{node.name or node.outputs[0].name or node.op_type}", nodes)
        for value in node.outputs:
            value.name = unique(f"{prefix}_{value.name or node.op_type}", values)
        for graph in (g for a in node.attributes.values() for g in subgraphs(a)):
            for value in (*graph.inputs, *list(graph.initializers.values())):
                value.name = unique(f"{prefix}_{value.name}", values)
            _rename(graph, prefix, values, nodes)


def subgraphs(attribute: ir.Attr) -> list[ir.Graph]:
    """The graphs that an attribute holds."""
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []
