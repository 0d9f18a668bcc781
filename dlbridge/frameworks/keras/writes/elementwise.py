"""Elementwise operators and functions."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import keras_dtype, rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op

_OPERATORS = {
    "Sub": "-",
    "Mul": "*",
    "Equal": "==",
    "Less": "<",
    "LessOrEqual": "<=",
    "Greater": ">",
    "GreaterOrEqual": ">=",
}

_FUNCTIONS = {
    "Abs": "ops.abs",
    "Acos": "ops.arccos",
    "Acosh": "ops.arccosh",
    "And": "ops.logical_and",
    "Asin": "ops.arcsin",
    "Asinh": "ops.arcsinh",
    "Atan": "ops.arctan",
    "Atanh": "ops.arctanh",
    "BitwiseAnd": "ops.bitwise_and",
    "BitwiseNot": "ops.bitwise_not",
    "BitwiseOr": "ops.bitwise_or",
    "BitwiseXor": "ops.bitwise_xor",
    "Ceil": "ops.ceil",
    "Cos": "ops.cos",
    "Cosh": "ops.cosh",
    "Det": "ops.det",
    "Erf": "ops.erf",
    "Exp": "ops.exp",
    "Floor": "ops.floor",
    "IsNaN": "ops.isnan",
    "Log": "ops.log",
    "Neg": "ops.negative",
    "Not": "ops.logical_not",
    "Or": "ops.logical_or",
    "Reciprocal": "ops.reciprocal",
    "Round": "ops.round",
    "Sign": "ops.sign",
    "Sin": "ops.sin",
    "Sinh": "ops.sinh",
    "Sqrt": "ops.sqrt",
    "Tan": "ops.tan",
    "Where": "ops.where",
    "Xor": "ops.logical_xor",
}


@rules("Add")
def add(op: Op) -> Code:
    first, second = _operands(op)
    # TensorFlow's backend takes `x + b` with b of one long dimension for a bias along the last axis: b goes first.
    if isinstance(second, ir.Value) and _has_one_long_dimension(op, 1):
        first, second = second, first
    return code("{} + {}", first, second)


def _has_one_long_dimension(op: Op, index: int) -> bool:
    shape = op.shape(index)
    return shape is not None and len(shape) > 1 and sum(d != 1 for d in shape) == 1 and shape != op.shape(1 - index)


@rules(*_OPERATORS)
def operator(op: Op) -> Code:
    first, second = _operands(op)
    return code(f"{{}} {_OPERATORS[op.node.op_type]} {{}}", first, second)


def _operands(op: Op) -> list[Any]:
    """The inputs as terms: rank-0 constants as numbers, but for the first when all are constants."""
    terms = [op.operand(0), op.operand(1)]
    if not any(isinstance(t, ir.Value) for t in terms):
        terms[0] = op[0]
    return [_term(t) for t in terms]


def _term(operand: Any) -> Any:
    if isinstance(operand, Code):
        return code("({})", operand) if any(isinstance(p, str) and " " in p for p in operand.parts) else operand
    if not isinstance(operand, ir.Value) and operand < 0:
        return code("({})", operand)
    return operand


@rules("Div")
def divide(op: Op) -> Code:
    if op.dtype().is_floating_point():
        first, second = _operands(op)
        return code("{} / {}", first, second)
    if op.dtype().name.startswith("UINT"):
        return call("ops.floor_divide", op[0], op[1])
    return call("truncated_divide", op[0], op[1])


@rules("Mod")
def mod(op: Op) -> Code:
    return call("truncated_mod" if op.attr("fmod") else "ops.mod", op[0], op[1])


@rules("Pow")
def power(op: Op) -> Code:
    exponent = op.scalar(1)
    if exponent == 2:
        return call("ops.square", op.x)
    if op.dtype(0) != op.dtype(1):
        wide = call("ops.power", call("ops.cast", op[0], "float64"), call("ops.cast", op[1], "float64"))
        return call("ops.cast", wide, keras_dtype(op, op.dtype(0)))
    return call("ops.power", op[0], op.operand(1))


@rules(*_FUNCTIONS)
def function(op: Op) -> Code:
    return call(_FUNCTIONS[op.node.op_type], *op.tensors)


@rules("Max", "Min")
def extreme(op: Op) -> Code:
    name = {"Max": "ops.maximum", "Min": "ops.minimum"}[op.node.op_type]
    first, *rest = op.tensors
    result: Any = first
    for other in rest:
        result = call(name, result, other)
    return result if rest else code("{}", first)


@rules("Sum", "Mean")
def total(op: Op) -> Code:
    first, *rest = op.tensors
    result: Any = code("{}", first)
    for other in rest:
        result = call("ops.add", other, result)
    return result if op.node.op_type == "Sum" or not rest else code("({}) / {}", result, len(op.tensors))


@rules("Cast")
def cast(op: Op) -> Code:
    return call("ops.cast", op.x, keras_dtype(op, op.out_dtype()))


@rules("CastLike")
def cast_like(op: Op) -> Code:
    return call("ops.cast", op.x, keras_dtype(op, op.out_dtype()))


@rules("IsInf")
def is_inf(op: Op) -> Code:
    positive, negative = op.attr("detect_positive"), op.attr("detect_negative")
    if positive and negative:
        return call("ops.isinf", op.x)
    if positive:
        return code('{} == float("inf")', op.x)
    return code('{} == -float("inf")', op.x) if negative else call("ops.zeros_like", op.x, dtype="bool")
