"""``expand``: a call of an ONNX function, replaced by the nodes of its body."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.matching import input_at
from dlbridge.passes.rewriter import Rewriter


def expand(node: ir.Node, function: ir.Function, rewriter: Rewriter) -> list[ir.Node]:
    """Replace ``node`` in its graph by the nodes of ``function``, which is used up.

    New nodes and values are named after the node (``block.act_Mul``); the node's outputs keep their names.

    Args:
        node: A node in a graph.
        function: What the node means: a copy of its own, not shared with a model or another call.
        rewriter: That of the main graph.

    Returns:
        The new nodes.
    """
    _bind_attributes(node, function)
    body = list(function)
    for index, formal in enumerate(function.inputs):
        actual = input_at(node, index)
        for use in list(formal.uses()):
            use.node.replace_input_with(use.idx, actual)
    slots = {id(value): slot for slot, value in enumerate(function.inputs)}
    results: list[ir.Value] = []
    for result in function.outputs:
        if id(result) in slots:  # an input handed through
            copy = ir.Node("", "Identity", [node.inputs[slots[id(result)]]])
            body.append(copy)
            result = copy.outputs[0]
        results.append(result)
    function.outputs.clear()
    for new in function:
        function.remove(new)
    rewriter.adopt(node, body, f"{node.name or node.op_type}_")
    for old, result in zip(node.outputs, results, strict=False):
        rewriter.substitute(old, result)
    rewriter.erase(node)
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
