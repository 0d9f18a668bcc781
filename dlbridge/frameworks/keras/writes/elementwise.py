"""Elementwise operators and functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.rules import in_dtype, keras_dtype, rules
from dlbridge.source.arrays import elementwise as arrays
from dlbridge.source.arrays.elementwise import is_tensor, is_uint64
from dlbridge.source.op import Dim, Op
from dlbridge.source.tree.code import Code, call, code

_OPERATORS = {"Sub": "-", "Mul": "*", "Less": "<", "LessOrEqual": "<=", "Greater": ">", "GreaterOrEqual": ">="}


@rules("Add")
def add(op: Op) -> Code:
    first, second = operands(op)
    return _sum(first, second, op.shape(0), op.shape(1))


def _sum(first: Any, second: Any, shape: list[Dim] | None, other: list[Dim] | None) -> Code:
    """``a + b``, in the order in which Keras does not take b for a bias along another axis."""
    if not is_tensor(second) or not _taken_for_bias(shape, other):
        return code("{} + {}", first, second)
    if not is_tensor(first) or not _taken_for_bias(other, shape):
        return code("{} + {}", second, first)
    return call("broadcast_add", first, second)


def _taken_for_bias(shape: list[Dim] | None, other: list[Dim] | None) -> bool:
    """Whether ``ops.add`` of TensorFlow's backend could go wrong on tensors of these shapes.

    It squeezes a second tensor of one dimension above 1, and adds it along the last axis of the first if that has this
    size, or along axis 1. That is right where broadcasting does the same; a size that is a name can be any.
    """
    if shape is None or other is None or len(shape) < 2 or shape == other:
        return False
    for axis, size in enumerate(other):
        rest = other[:axis] + other[axis + 1 :]
        if size == 1 or any(isinstance(d, int) and d > 1 for d in rest):
            continue
        # The other sizes are 1, here as well, where they have names.
        here = [1 if isinstance(d, str) and d in rest else d for d in shape]
        if not (_may_be(size, here[1]) or _may_be(size, here[-1])):
            continue
        along = axis - len(other) + len(shape)
        at_last = along == len(shape) - 1 and size == here[-1]
        at_second = along == 1 and size == here[1] and not _may_be(size, here[-1])
        if len(other) > len(shape) or not (at_last or at_second):
            return True
    return False


def _may_be(a: Dim, b: Dim) -> bool:
    return a == b or not (isinstance(a, int) and isinstance(b, int))


@rules(*_OPERATORS)
def operator(op: Op) -> Code:
    return code(f"{{}} {_OPERATORS[op.key]} {{}}", *operands(op))


def operand(op: Op, index: int) -> Any:
    """An input as a term; a size as a tensor of its dtype, as TensorFlow's sizes are int32 and meet no other type."""
    found = op.operand(index)
    return op[index] if isinstance(found, Code) else found


def operands(op: Op) -> list[Any]:
    """The inputs as terms of an expression."""
    return arrays.operands(op, operand)


@rules("Div")
def divide(op: Op) -> Code:
    if is_uint64(op):
        return code("{}[0]", call("divide_uint64", op[0], op[1]))
    if op.dtype().is_floating_point():
        return code("{} / {}", *operands(op))
    if op.dtype().name.startswith("UINT"):
        return call("ops.floor_divide", op[0], op[1])
    return call("truncated_divide", op[0], op[1])


@rules("Mod")
def mod(op: Op) -> Code:
    if is_uint64(op):
        return code("{}[1]", call("divide_uint64", op[0], op[1]))
    # Of a Python number, Keras makes a tensor of float32 here, whatever the other is.
    if op.attr("fmod"):
        return call("ops.fmod" if op.dtype().is_floating_point() else "truncated_mod", op[0], op[1])
    return call("ops.mod", op[0], op[1])


@rules("Pow")
def power(op: Op) -> Code:
    """The result has the base's dtype, whatever the exponent's is."""
    base, exponent = op.dtype(0), op.dtype(1)
    value = op.scalar(1)
    if value == 2 and (op.rank(1) == 0 or op.rank(1) <= op.rank()):
        return call("ops.square", op.x)
    if base.is_floating_point():
        if value is not None and op.rank(1) == 0:
            return call("ops.power", op.x, float(value))
        return call("ops.power", op[0], op[1] if base == exponent else in_dtype(op, op[1], base))
    if exponent.is_integer():
        return call("ops.power", op[0], op[1] if base == exponent else in_dtype(op, op[1], base))
    return in_dtype(op, call("ops.power", call("ops.cast", op[0], "float64"), call("ops.cast", op[1], "float64")))


@rules("BitShift")
def shift(op: Op) -> Code:
    left, width = op.attr("direction") == "LEFT", op.dtype().bitwidth
    if is_uint64(op) and not left:
        return call("shift_right_uint64", op[0], op[1])
    count = op.const(1)
    if count is not None and np.all((count >= 0) & (count < width)):
        return call("ops.left_shift" if left else "ops.right_shift", op[0], op[1])
    return call("shift_left" if left else "shift_right", op[0], op[1], width)


@rules("Equal")
def equal(op: Op) -> Code:
    return call("ops.equal", *(op.tensors if op.dtype() == ir.DataType.BOOL else operands(op)))


@rules("Where")
def where(op: Op) -> Code:
    yes, no = operand(op, 1), operand(op, 2)
    if not (is_tensor(yes) or is_tensor(no)) or op.dtype(1) == ir.DataType.BOOL:
        yes, no = op[1], op[2]
    return call("ops.where", op[0], yes, no)


@rules("Max", "Min")
def extreme(op: Op) -> Code:
    name = {"Max": "ops.maximum", "Min": "ops.minimum"}[op.key]
    terms = operands(op)
    result: Any = terms[0]
    for other in terms[1:]:
        result = call(name, result, other)
    return code("{}", result)


@rules("Sum", "Mean")
def total(op: Op) -> Code:
    result, shape, count = op[0], op.shape(0), len(op.node.inputs)
    for index in range(1, count):
        result, shape = _sum(result, op[index], shape, op.shape(index)), _broadcast(shape, op.shape(index))
    if op.key == "Sum" or count == 1:
        return code("{}", result)
    return code("({}) / {}", result, count)


def _broadcast(a: list[Dim] | None, b: list[Dim] | None) -> list[Dim] | None:
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip([1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b, strict=True)
    return [y if x == 1 else x for x, y in pairs]


# --- dtypes --------------------------------------------------------------------------------------------------------

_FLOAT8 = {ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2}


@rules("Cast", "CastLike")
def cast(op: Op) -> Code:
    source, target = op.dtype(), op.out_dtype()
    dtype = keras_dtype(op, target)
    if source == target:
        return code("{}", op.x)
    if target in _FLOAT8:
        return call("float8_cast", op.x, dtype, saturate=None if op.attr("saturate") else False)
    return call("ops.cast", op.x, dtype)
