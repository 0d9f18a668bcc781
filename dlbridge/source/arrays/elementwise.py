"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from dlbridge.ops.elementwise import BINARY_FUNCTIONS, UNARY_FUNCTIONS
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, code, join
from dlbridge.source.tree.expr import is_size

elementwise = Family()
#: For frameworks where sizes are numbers and all arrays know Python's operators; adopted before ``elementwise``, which
#: has the same ops as functions.
operators = Family()

_FUNCTIONS = UNARY_FUNCTIONS | BINARY_FUNCTIONS | {"Det": "det"}


@elementwise(*_FUNCTIONS)
def function(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call(_FUNCTIONS[op.key], *op.tensors)


@elementwise("StopGradient", domain=DOMAIN)
def stop_gradient(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("stop_gradient", op.x)


@elementwise("IsInf")
def is_infinite(op: Op, arrays: ArrayDialect) -> Code:
    positive, negative = op.attr("detect_positive"), op.attr("detect_negative")
    if positive and negative:
        return arrays.call("isinf", op.x)
    if positive or negative:
        return arrays.call("isposinf" if positive else "isneginf", op.x)
    return arrays.call("zeros_like", op.x, dtype=arrays.dtype(op, ir.DataType.BOOL))


@elementwise("BitCast")
def bit_cast(op: Op, arrays: ArrayDialect) -> Code:
    """The same bits in another type. Bools go by way of bytes."""
    source, target = op.dtype(), op.out_dtype()
    if source == target:
        return code("{}", op.x)
    x = arrays.in_dtype(op, op.x, ir.DataType.UINT8) if source == ir.DataType.BOOL else op.x
    if target == ir.DataType.BOOL:
        return arrays.in_dtype(op, x)
    return arrays.call("view", x, arrays.dtype(op, target))


def is_uint64(op: Op) -> bool:
    """Whether a node computes on uint64, before any framework's own way of doing so."""
    value = op.value(0)
    return value is not None and value.dtype == ir.DataType.UINT64


_OPERATORS = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Equal": "==",
    "Less": "<",
    "LessOrEqual": "<=",
    "Greater": ">",
    "GreaterOrEqual": ">=",
    "And": "&",
    "Or": "|",
    "Xor": "^",
    "BitwiseAnd": "&",
    "BitwiseOr": "|",
    "BitwiseXor": "^",
}


def operands(op: Op, operand: Callable[[Op, int], Any] = lambda op, index: op.operand(index)) -> list[Any]:
    """The inputs as terms of an expression: rank-0 constants as numbers, but for the first when all are constants.

    Args:
        op: The node.
        operand: Gives an input as a term.
    """
    terms = [operand(op, i) for i in range(len(op.node.inputs))]
    if not any(is_tensor(t) for t in terms):
        terms[0] = op[0]
    return terms


def is_tensor(operand: Any) -> bool:
    """Whether an operand is a tensor in the code, not a number or an expression of Python ints."""
    return isinstance(operand, ir.Value) or (isinstance(operand, Code) and not is_size(operand))


@operators(*_OPERATORS)
def operator(op: Op, arrays: ArrayDialect) -> Code:
    return code(f"{{}} {_OPERATORS[op.key]} {{}}", *operands(op))


@operators("Neg")
def negate(op: Op, arrays: ArrayDialect) -> Code:
    return code("-{}", op.x)


@operators("Not", "BitwiseNot")
def invert(op: Op, arrays: ArrayDialect) -> Code:
    return code("~{}", op.x)


@operators("Sum", "Mean")
def total(op: Op, arrays: ArrayDialect) -> Code:
    result, count = join(" + ", op.tensors), len(op.tensors)
    return result if op.key == "Sum" or count == 1 else code("({}) / {}", result, count)


@operators("Max", "Min")
def extreme(op: Op, arrays: ArrayDialect) -> Code:
    result, *others = operands(op)
    for other in others:
        result = arrays.call("maximum" if op.key == "Max" else "minimum", result, other)
    return code("{}", result)


@operators("Where")
def where(op: Op, arrays: ArrayDialect) -> Code:
    yes, no = op.operand(1), op.operand(2)
    if not is_tensor(yes) and not is_tensor(no):
        yes = op[1]
    return arrays.call("where", op.x, yes, no)
