"""Elementwise arithmetic."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import is_float
from dlbridge.frameworks.pytorch.graph.reading import Op, reads, reads_unary
from dlbridge.frameworks.pytorch.reads import integers
from dlbridge.ops import formulas

_UNARY = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "logical_not": "Not",
}
reads_unary(_UNARY)

#: ATen op -> the formula that it is, of operands in the result's dtype.
_FORMULAS = {
    "atan2": formulas.atan2,
    "exp2": formulas.exp2,
    "expm1": formulas.expm1,
    "hypot": formulas.hypot,
    "log10": formulas.log10,
    "log1p": formulas.log1p,
    "log2": formulas.log2,
    "logaddexp": formulas.logaddexp,
    "logaddexp2": formulas.logaddexp2,
    "rsqrt": formulas.rsqrt,
    "square": formulas.square,
}


@reads(*(f"aten.{name}" for name in _FORMULAS))
def formula(op: Op, *operands: Any) -> ir.Value:
    return _FORMULAS[op.name](op, *(op.cast(x) for x in operands))


@reads("aten.ceil", "aten.floor", "aten.trunc", "aten.fix", "aten.round")
def rounded(op: Op, x: ir.Value, *, decimals: int = 0) -> ir.Value:
    if not is_float(x):
        return x
    if op.name in ("trunc", "fix"):
        return formulas.truncated(op, x)
    return formulas.rounded(op, x, decimals) if op.name == "round" else op(op.name.capitalize(), x)


# --- two operands --------------------------------------------------------------------------------------------------


@reads("aten.add", "aten.sub", "aten.subtract")
def add(op: Op, x: Any, y: Any, alpha: Any = 1) -> ir.Value:
    name = "Sub" if op.name.startswith("sub") else "Add"
    if op.dtype == ir.DataType.BOOL:
        return op.binary("Or", x, y)
    if isinstance(y, int) and y == 0 and not op.dtype.is_floating_point():
        return op.cast(x)
    if alpha != 1:
        y = op.cast(y) * alpha
    return op.binary(name, x, y)


@reads("aten.rsub")
def rsub(op: Op, x: ir.Value, y: Any, alpha: Any = 1) -> ir.Value:
    if alpha != 1:
        x = op.cast(x) * alpha
    return op.binary("Sub", y, x)


@reads("aten.mul", "aten.multiply")
def mul(op: Op, x: Any, y: Any) -> ir.Value:
    if op.dtype == ir.DataType.BOOL:
        return op.binary("And", x, y)
    return op.binary("Mul", x, y)


@reads("aten.div", "aten.divide", "aten.true_divide", "aten.floor_divide")
def div(op: Op, x: Any, y: Any, *, rounding_mode: str | None = None) -> ir.Value:
    if op.name == "floor_divide":
        rounding_mode = "floor"
    if rounding_mode == "floor" and not op.dtype.is_floating_point():
        return integers.floor_divide(op, x, y)
    if rounding_mode == "floor":
        return _floored_quotient(op, x, y)
    quotient = op.binary("Div", x, y)
    if rounding_mode is None or not op.dtype.is_floating_point():
        return quotient
    return formulas.truncated(op, quotient)


def _floored_quotient(op: Op, x: Any, y: Any) -> ir.Value:
    """The exact quotient of floats, rounded down: 1.0 // 0.1 is 9, though 1.0 / 0.1 is rounded to 10."""
    dividend, divisor = op.cast(x), op.cast(y)
    whole = op("Round", (dividend - op("Mod", dividend, divisor)) / divisor)
    if isinstance(y, (int, float)) and y != 0:
        return whole
    return op("Where", op("Equal", divisor, 0), dividend / divisor, whole)


@reads("aten.remainder")
def remainder(op: Op, x: Any, y: Any) -> ir.Value:
    return op.binary("Mod", x, y)


@reads("aten.fmod")
def fmod(op: Op, x: Any, y: Any) -> ir.Value:
    return op("Mod", op.cast(x), op.cast(y), fmod=1)


@reads("aten.pow", "aten.float_power")
def power(op: Op, x: Any, exponent: Any) -> ir.Value:
    if not op.dtype.is_floating_point():
        return integers.power(op, x, exponent)
    if isinstance(exponent, (int, float)):
        base = op.cast(x)
        if exponent in (1, 2):
            return base if exponent == 1 else base * base
        if exponent in (0.5, -0.5):
            root = op("Sqrt", base)
            return root if exponent > 0 else op("Reciprocal", root)
    return op.binary("Pow", x, exponent)


@reads("aten.maximum", "aten.max.other", "aten.minimum", "aten.min.other")
def extreme(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    of_numbers, of_flags = ("Max", "Or") if "max" in op.name else ("Min", "And")
    return op.binary(of_flags if op.dtype == ir.DataType.BOOL else of_numbers, x, y)


@reads("aten.fmax", "aten.fmin")
def extreme_but_nan(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger or smaller of two, and of a number and NaN the number."""
    chosen = extreme(op, x, y)
    if not op.dtype.is_floating_point():
        return chosen
    return formulas.unless_nan(op, op.cast(x), op.cast(y), chosen)


@reads("aten.clamp", "aten.clip")
def clamp(op: Op, x: ir.Value, min: Any = None, max: Any = None) -> ir.Value:
    """Limits that are tensors may be broadcast, which ONNX' Clip does not allow."""
    x = op.cast(x)
    if any(isinstance(v, ir.Value) for v in (min, max)):
        if min is not None:
            x = op("Max", x, op.cast(min))
        return x if max is None else op("Min", x, op.cast(max))
    return op("Clip", x, min, max)


@reads("aten.angle")
def angle(op: Op, x: ir.Value) -> ir.Value:
    """The angle of a real number: pi below zero, else 0."""
    x = op.cast(x)
    return op("Where", op("Less", x, 0), math.pi, x * 0)


@reads("aten.ldexp")
def ldexp(op: Op, x: ir.Value, exponent: ir.Value) -> ir.Value:
    return op.cast(x) * op("Pow", 2, op.cast(exponent))


@reads("aten.lerp")
def lerp(op: Op, x: ir.Value, end: ir.Value, weight: Any) -> ir.Value:
    return x + (end - x) * op.cast(weight)


@reads("aten.xlogy", "aten.special_xlogy")
def xlogy(op: Op, x: Any, y: Any) -> ir.Value:
    x, y = op.cast(x), op.cast(y)
    return op("Where", op("Equal", x, 0), 0, x * op("Log", y))
