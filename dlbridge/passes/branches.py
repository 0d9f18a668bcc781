"""Replaces an ``If`` whose condition is a constant by the branch that is taken."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.matching import match
from dlbridge.passes.rewriter import Rewriter


def take_known_branch(node: ir.Node, rewriter: Rewriter) -> None:
    """Replace an ``If`` on a constant by the nodes of the branch that it takes, in place.

    Args:
        node: Any node; one that is not an ``If`` on a constant stays as it is.
        rewriter: That of the main graph, in which names are unique.
    """
    found = match(node, "If")
    condition = None if found is None or node.graph is None else found.constant_scalar(0)
    if found is None or condition is None:
        return
    taken = "then_branch" if condition else "else_branch"
    branch = node.attributes[taken].as_graph()
    body, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    for inner in body:
        branch.remove(inner)
    rewriter.look_again()
    rewriter.adopt(node, body)
    for output, result in zip(node.outputs, results, strict=True):
        if output.is_graph_output():  # which a node of its own gives; what does nothing goes later
            copy = rewriter.insert(node, "Identity", "taken", [result]).outputs[0]
            rewriter.substitute(output, copy)
            copy.type, copy.shape = result.type, result.shape
        else:
            output.replace_all_uses_with(result)
    rewriter.erase(node)
