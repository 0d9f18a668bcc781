"""Elementwise functions."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.code import Code
from dlbridge.source.op import Op

elementwise = Family()

#: Op -> the function that computes it, as ``keras.ops`` calls it.
FUNCTIONS = {
    "Abs": "abs",
    "Acos": "arccos",
    "Acosh": "arccosh",
    "And": "logical_and",
    "Asin": "arcsin",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Atanh": "arctanh",
    "BitwiseAnd": "bitwise_and",
    "BitwiseNot": "bitwise_not",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Det": "det",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "isnan",
    "Log": "log",
    "Neg": "negative",
    "Not": "logical_not",
    "Or": "logical_or",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Xor": "logical_xor",
}


@elementwise(*FUNCTIONS)
def function(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call(FUNCTIONS[op.key], *op.tensors)


@elementwise("IsInf")
def is_infinite(op: Op, arrays: ArrayDialect) -> Code:
    positive, negative = op.attr("detect_positive"), op.attr("detect_negative")
    if positive and negative:
        return arrays.call("isinf", op.x)
    if positive or negative:
        return arrays.call("isposinf" if positive else "isneginf", op.x)
    return arrays.call("zeros_like", op.x, dtype=arrays.dtype(op, ir.DataType.BOOL))


def is_uint64(op: Op) -> bool:
    """Whether a node computes on uint64, before any framework's own way of doing so."""
    value = op.value(0)
    return value is not None and value.dtype == ir.DataType.UINT64
