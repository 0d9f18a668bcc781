"""Removes initial states of zeros from recurrent layers, which start from zeros anyway."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.lift.pattern import Lifter, all_equal, rule
from dlbridge.passes.matching import Match, constant, producer

#: Ops that make zeros of zeros.
_KEEP_ZEROS = frozenset({"Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Identity", "Cast", "Tile"})


@rule("LSTM", "GRU", "RNN")
def zero_state(node: Match, to: Lifter) -> bool:
    """Exporters write the zeros out, with the sizes computed."""
    slots = [slot for slot in (5, 6) if _is_zeros(node.input(slot))]
    for slot in slots:
        node.node.replace_input_with(slot, None)
        to.changed = True
    return bool(slots) or to.no(node, "no initial state is made of zeros")


def _is_zeros(value: ir.Value | None) -> bool:
    if constant(value) is not None:
        return all_equal(value, 0)
    node = producer(value)
    if node is None:
        return False
    if node.is_op("ConstantOfShape"):
        filling = node.attribute("value")
        return filling is None or not filling.numpy().any()
    if node.is_op("Concat"):
        return all(_is_zeros(v) for v in node.node.inputs)
    return node.key in _KEEP_ZEROS and _is_zeros(node.operand(0))
