"""Nodes that stand for what has no rule: a model that is read in part keeps them, to be filled in by hand."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.names import identifier

DOMAIN = "dlbridge.missing"
#: On such a node: what it stands for and where that is (``aten.foo.default at net.warp (nets.py:31)``).
NOTE = "dlbridge.missing"


def stand_in(
    op: str, inputs: Sequence[ir.Value], outputs: Sequence[tuple[ir.DataType, ir.Shape]], note: str
) -> ir.Node:
    """A node for an op that cannot be read.

    Args:
        op: What it is called (``aten.foo``).
        inputs: The tensors that it reads.
        outputs: (dtype, shape) of each that it makes.
        note: What it is and where it stands, for the person who fills it in.
    """
    node = ir.node(identifier(op), list(inputs), domain=DOMAIN, version=1, num_outputs=len(outputs))
    node.op_type, node.metadata_props[NOTE] = identifier(op), note
    node.metadata_props[traits.ANONYMOUS] = "true"
    for value, (dtype, shape) in zip(node.outputs, outputs, strict=True):
        value.dtype, value.shape = dtype, shape
    return node


def note(node: ir.Node) -> str:
    """What a node that has no rule stands for."""
    return node.metadata_props.get(NOTE) or f"{node.domain}.{node.op_type} at {node.name}".lstrip(".")
