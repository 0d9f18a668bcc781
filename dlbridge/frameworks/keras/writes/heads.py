"""Heads of attention: a Reshape and a Transpose that put them apart, or together again, are one call of a helper."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.source.op import Op, dims

#: (batch, time, heads, size) <-> (batch, heads, time, size).
_ORDER = [0, 2, 1, 3]


def split(op: Op) -> tuple[ir.Value, int] | None:
    """(x, heads), where a Transpose makes (batch, heads, time, size) of the heads that x (batch, time, ...) has."""
    reshape = _before(op, "Reshape")
    if reshape is None or op.attr("perm") != _ORDER:
        return None
    x, apart = reshape.inputs[0], dims(reshape.outputs[0])
    have = dims(x)
    if x is None or have is None or apart is None or len(have) != 3 or None in have:
        return None
    count, size = apart[2:]
    known = isinstance(count, int) and isinstance(size, int) and have[2] == count * size
    return (x, count) if known and have[:2] == apart[:2] and _is_free(have[1]) else None  # type: ignore[return-value]


def merged(op: Op) -> ir.Value | None:
    """x of (batch, heads, time, size), where a Reshape makes (batch, time, heads * size) of it, transposed."""
    transpose = _before(op, "Transpose")
    if transpose is None:
        return None
    x, flat, order = transpose.inputs[0], dims(op.node.outputs[0]), transpose.attributes.get("perm")
    apart = dims(x)
    if x is None or apart is None or flat is None or None in apart or order is None or list(order.as_ints()) != _ORDER:
        return None
    batch, heads, time, size = apart
    if not isinstance(heads, int) or not isinstance(size, int):
        return None
    return x if flat == [batch, time, heads * size] and _is_free(time) else None


def _is_free(time: object) -> bool:
    """Whether a length is not known: where it is, the layers of Keras say what the ops do."""
    return not isinstance(time, int)


def _before(op: Op, name: str) -> ir.Node | None:
    """The node that makes what a node reads, of this op, in the same block, and that nothing else reads."""
    value = op.value(0)
    node = None if value is None else value.producer()
    if value is None or node is None or not is_op(node, name) or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return node if traits.scope(node) == traits.scope(op.node) and node.graph is op.node.graph else None
