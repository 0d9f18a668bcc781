"""Stand-ins: nodes in place of ops that have no rule, kept with ``--partial`` so that a person can write their code."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.names import python_name

DOMAIN = "dlbridge.missing"
#: Key of a stand-in's metadata: the original op and its location (``aten.foo.default at net.warp (nets.py:31)``).
NOTE = "dlbridge.missing"


def stand_in(
    op: str, inputs: Sequence[ir.Value], outputs: Sequence[tuple[ir.DataType, ir.Shape]], note: str
) -> ir.Node:
    """Create a stand-in for an op that cannot be read.

    Args:
        op: The op's name (``aten.foo``).
        inputs: The tensors that it reads.
        outputs: (dtype, shape) of each output.
        note: The op and its location, for the person who writes its code.
    """
    node = ir.node(python_name(op), list(inputs), domain=DOMAIN, version=1, num_outputs=len(outputs))
    node.op_type, node.metadata_props[NOTE] = python_name(op), note
    traits.mark(node, traits.ANONYMOUS)
    for value, (dtype, shape) in zip(node.outputs, outputs, strict=True):
        value.dtype, value.shape = dtype, shape
    return node


def note(node: ir.Node) -> str:
    """The original op of a stand-in, and its location."""
    return node.metadata_props.get(NOTE) or f"{node.domain}.{node.op_type} at {node.name}".lstrip(".")
