"""``expand``: a call of an ONNX function, replaced by the nodes of its body."""

from __future__ import annotations

import onnx_ir as ir


def expand(node: ir.Node, function: ir.Function) -> list[ir.Node]:
    """Replace ``node`` in its graph by the nodes of ``function``, which is used up.

    New nodes and values are named after the node: ``act`` becomes ``act.Mul``, ... The node's outputs keep their names.

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
    for new in body:
        _rename(new, node.name or node.op_type, used)
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
            given = node.attributes.get(attribute.ref_attr_name) or function.attributes.get(attribute.ref_attr_name)
            if given is None or given.value is None:
                del inner.attributes[name]
            else:
                inner.attributes[name] = ir.Attr(name, attribute.type, given.value)


def _rename(node: ir.Node, prefix: str, used: set[str | None]) -> None:
    stem = node.outputs[0].name or node.op_type
    node.name = unique(f"{prefix}.{stem}", used)
    for value in node.outputs:
        value.name = unique(f"{prefix}.{value.name or node.op_type}", used)


def unique(name: str, used: set[str | None]) -> str:
    """``name``, or with a number behind it when it is in ``used``, to which it is added."""
    candidate, count = name, 1
    while candidate in used:
        count += 1
        candidate = f"{name}_{count}"
    used.add(candidate)
    return candidate
