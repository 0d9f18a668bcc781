"""Recurrent layers: an initial state of zeros is what they start from anyway."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes.lift.pattern import Lifter, array, attribute, input_at, is_constant, rule

#: Ops that make zeros of zeros.
_KEEP_ZEROS = frozenset({"Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Identity", "Cast", "Tile"})


@rule("LSTM", "GRU", "RNN")
def zero_state(node: ir.Node, to: Lifter) -> bool:
    """Exporters write the zeros out, with the sizes computed."""
    slots = [slot for slot in (5, 6) if _is_zeros(input_at(node, slot))]
    for slot in slots:
        node.replace_input_with(slot, None)
    return bool(slots)


def _is_zeros(value: ir.Value | None) -> bool:
    if value is None:
        return False
    if is_constant(value):
        return not array(value).any()
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if is_op(node, "ConstantOfShape"):
        filling = attribute(node, "value")
        return filling is None or not filling.numpy().any()
    if is_op(node, "Concat"):
        return all(_is_zeros(v) for v in node.inputs)
    return op_key(node) in _KEEP_ZEROS and _is_zeros(node.inputs[0])
