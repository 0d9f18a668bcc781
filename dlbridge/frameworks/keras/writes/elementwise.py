"""Elementwise operators."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, code
from dlbridge.source.op import Op

_OPERATORS = {"Add": "+", "Sub": "-", "Mul": "*"}


@rules(*_OPERATORS)
def operator(op: Op) -> Code:
    return code(f"{{}} {_OPERATORS[op.node.op_type]} {{}}", op.operand(0), op.operand(1))
