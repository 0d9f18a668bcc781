"""``keras.ops`` of arithmetic, comparison, truth values and bits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, elementwise, operation
from dlbridge.frameworks.keras.reads.biases import add
from dlbridge.ops import formulas

_ARITHMETIC = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Power": "Pow"}
_ARITHMETIC |= {"Maximum": "Max", "Minimum": "Min"}
elementwise(
    CallSite.common,
    {
        "Equal": "Equal",
        "Greater": "Greater",
        "GreaterEqual": "GreaterOrEqual",
        "Less": "Less",
        "LessEqual": "LessOrEqual",
        "NotEqual": lambda site, a, b: site.op("Not", site.op("Equal", a, b)),
    },
)
elementwise(CallSite.promoted, {"Fmod": "Mod"}, fmod=1)
elementwise(
    functools.partial(CallSite.promoted, to=ir.DataType.BOOL),
    {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor", "LogicalNot": "Not"},
)


@operation(*_ARITHMETIC)
def arithmetic(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    if site.dtype == ir.DataType.BOOL:  # of truth values: add and maximum are or, multiply and minimum are and
        op_type = {"Add": "Or", "Maximum": "Or", "Multiply": "And", "Minimum": "And"}.get(site.operation)
        if op_type is None:
            site.refuse("arithmetic of truth values")
        return site.op(op_type, *site.promoted(x1, x2))
    if site.operation == "Add":
        return add(site, *site.promoted(x1, x2))
    return site.op(_ARITHMETIC[site.operation], *site.promoted(x1, x2))


@operation("FloorDivide", operands=CallSite.promoted)
def floor_divide(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    if site.dtype.is_floating_point():
        return site.op("Floor", a / b)
    return (a - site.op("Mod", a, b)) / b  # the standard's Div truncates


@operation("Mod", operands=CallSite.promoted)
def mod(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    if not site.dtype.is_floating_point():
        return site.op("Mod", a, b)
    rest = site.op("Mod", a, b, fmod=1)  # has the sign of a; Keras' has that of b
    wrong = site.op("And", site.op("Not", site.op("Equal", rest, 0.0)), site.op("Less", rest * b, 0.0))
    return site.op("Where", wrong, rest + b, rest)


@operation("DivideNoNan", operands=CallSite.promoted)
def divide_no_nan(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    none = site.op("Equal", b, 0.0)
    return site.op("Where", none, 0.0, a / site.op("Where", none, 1.0, b))


@operation("Fmax", "Fmin", operands=CallSite.promoted)
def extreme_but_nan(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    both = site.op("Max" if site.operation == "Fmax" else "Min", a, b)
    if not site.dtype.is_floating_point():
        return both
    return formulas.unless_nan(site, a, b, both)


@operation("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bits(site: CallSite, x: Any, y: Any) -> ir.Value:
    op_type = site.operation
    return site.op(op_type.removeprefix("Bitwise") if site.dtype == ir.DataType.BOOL else op_type, *site.promoted(x, y))


@operation("BitwiseInvert", "BitwiseNot")
def bitwise_not(site: CallSite, x: Any) -> ir.Value:
    return site.op("Not" if site.tensor(x).dtype == ir.DataType.BOOL else "BitwiseNot", site.tensor(x))


@operation("BitwiseLeftShift", "LeftShift", "BitwiseRightShift", "RightShift")
def shift(site: CallSite, x: Any, y: Any) -> ir.Value:
    """Unsigned numbers are shifted; signed ones are multiplied by a power of two, or divided by it and floored.

    That is done in int64, where the powers fit. Those of int64 itself may not, so it takes two steps of half the way.
    """
    left = "Left" in site.operation
    a, b = site.promoted(x, y)
    if not a.dtype.is_signed():
        return site.op("BitShift", a, b, direction="LEFT" if left else "RIGHT")
    dtype, a, b = a.dtype, site.cast(a, ir.DataType.INT64), site.cast(b, ir.DataType.INT64)
    half = b / 2
    steps = [half, b - half] if dtype == ir.DataType.INT64 else [b]
    for step in steps:
        power = site.op("Pow", 2, step)
        a = a * power if left else (a - site.op("Mod", a, power)) / power
    return site.cast(a, dtype)


@operation("Isclose")
def isclose(
    site: CallSite, x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> ir.Value:
    return close(site, x1, x2, float(rtol), float(atol), site.source.equal_nan)


def close(
    site: CallSite, x1: Any, x2: Any, rtol: float, atol: float, equal_nan: bool, finite: bool = False
) -> ir.Value:
    """|a - b| <= atol + rtol * |b|, and ``finite`` if that is asked; integers must be equal."""
    a, b = site.common(x1, x2)
    equal = site.op("Equal", a, b)
    if not a.dtype.is_floating_point():
        return equal
    gap = site.op("Abs", a - b)
    near = site.op("LessOrEqual", gap, site.op("Abs", b) * rtol + atol)
    if finite:
        near = site.op("And", near, site.op("Less", gap, np.inf))
    near = site.op("Or", near, equal)
    if not equal_nan:
        return near
    return site.op("Or", near, site.op("And", site.op("IsNaN", a), site.op("IsNaN", b)))
