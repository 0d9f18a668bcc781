"""Splits ops of many operands: the sum of 800 tensors would be one expression, too deep for Python to go through."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes
from dlbridge.passes.integers import Integers
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.standard import graph_pass

#: More operands than this do not stand in one expression.
MAX_OPERANDS = 16
#: Op -> the op that joins some of its operands.
_JOINED_BY = {"Sum": "Sum", "Mean": "Sum", "Max": "Max", "Min": "Min"}


def split_operands(graph: ir.Graph) -> bool:
    """Let each node join at most :data:`MAX_OPERANDS` operands, in place. They are joined in the same order as before.

    Returns:
        Whether there was a node with more.
    """
    rewriter = Rewriter(graph)
    for node in list(graph.all_nodes()):
        if len(node.inputs) > MAX_OPERANDS and op_key(node) in _JOINED_BY:
            _split(Site(node, rewriter))
    return rewriter.changed


def _split(site: Site) -> None:
    is_mean, count = site.key == "Mean", len(site.node.inputs)
    total, *rest = site.node.inputs
    last = 0 if is_mean else MAX_OPERANDS - 1  # how many the node itself goes on to join
    while len(rest) > last:
        taken = min(MAX_OPERANDS - 1, len(rest) - last)
        part, rest = rest[:taken], rest[taken:]
        total = _typed(site.op(_JOINED_BY[site.key], "part", [total, *part]))
    if not is_mean:
        site.set_inputs(total, *rest)
        return
    number = site.rewriter.constant(f"{site.name}_count", count, site.dtype())
    site.rewriter.replace(site.node, "Div", [total, number], name=site.name)


def _typed(value: ir.Value) -> ir.Value:
    """A value with the type that the node has which makes it."""
    producer = value.producer()
    assert producer is not None
    shapes.infer_node(producer, Integers())
    return value


SPLIT_OPERANDS = graph_pass(split_operands, "Let no expression join more than a few tensors.")
