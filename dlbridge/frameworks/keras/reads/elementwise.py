"""``keras.ops`` that work on each element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.activation import as_float, clip
from dlbridge.ops.extension import DOMAIN

#: Function of floats -> the standard's op.
_FLOAT = {"Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan", "Sinh": "Sinh"}
_FLOAT |= {"Cosh": "Cosh", "Arcsin": "Asin", "Arccos": "Acos", "Arctan": "Atan", "Arcsinh": "Asinh", "Erf": "Erf"}
_FLOAT |= {"Arccosh": "Acosh", "Arctanh": "Atanh", "Floor": "Floor", "Ceil": "Ceil", "Reciprocal": "Reciprocal"}
_FLOAT |= {"Isnan": "IsNaN"}
#: Functions of any number.
_ANY = {"Absolute": "Abs", "Abs": "Abs", "Fabs": "Abs", "Negative": "Neg", "Sign": "Sign", "StopGradient": "Identity"}
_ANY |= {"Copy": "Identity", "Array": "Identity"}
_ARITHMETIC = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Power": "Pow"}
_ARITHMETIC |= {"Maximum": "Max", "Minimum": "Min"}
_COMPARISONS = {"Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less"}
_COMPARISONS |= {"LessEqual": "LessOrEqual"}
_LOGIC = {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}
_BITS = {"BitwiseAnd": "BitwiseAnd", "BitwiseOr": "BitwiseOr", "BitwiseXor": "BitwiseXor"}


def _kind(site: CallSite) -> str:
    return type(site.source).__name__


@operation(*_FLOAT)
def of_floats(site: CallSite, x: Any) -> ir.Value:
    return site.op(_FLOAT[_kind(site)], as_float(site, x))


@operation(*_ANY)
def of_numbers(site: CallSite, x: Any) -> ir.Value:
    return site.op(_ANY[_kind(site)], site.tensor(x))


@operation(*_ARITHMETIC)
def arithmetic(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    if site.dtype == ir.DataType.BOOL:  # of truth values: add and maximum are or, multiply and minimum are and
        op_type = {"Add": "Or", "Maximum": "Or", "Multiply": "And", "Minimum": "And"}.get(_kind(site))
        if op_type is None:
            site.refuse("arithmetic of truth values")
        return site.op(op_type, *site.promoted(x1, x2))
    return site.op(_ARITHMETIC[_kind(site)], *site.promoted(x1, x2))


@operation("FloorDivide")
def floor_divide(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    if site.dtype.is_floating_point():
        return site.op("Floor", site.op("Div", a, b))
    return site.op("Div", site.op("Sub", a, site.op("Mod", a, b)), b)  # the standard's Div truncates


@operation("Mod")
def mod(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    if not site.dtype.is_floating_point():
        return site.op("Mod", a, b)
    rest = site.op("Mod", a, b, fmod=1)  # has the sign of a; Keras' has that of b
    zero = site.build.value(0.0, rest.dtype)
    wrong = site.op("And", site.op("Not", site.op("Equal", rest, zero)), site.op("Less", site.op("Mul", rest, b), zero))
    return site.op("Where", wrong, site.op("Add", rest, b), rest)


@operation("Fmod")
def fmod(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    return site.op("Mod", *site.promoted(x1, x2), fmod=1)


@operation("DivideNoNan")
def divide_no_nan(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    none = site.op("Equal", b, 0.0)
    zero = site.build.value(0.0, b.dtype)
    safe = site.op("Where", none, site.build.value(1.0, b.dtype), b)
    return site.op("Where", none, zero, site.op("Div", a, safe))


@operation("Fmax", "Fmin")
def extreme_but_nan(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    both = site.op("Max" if _kind(site) == "Fmax" else "Min", a, b)
    if not site.dtype.is_floating_point():
        return both
    return site.op("Where", site.op("IsNaN", a), b, site.op("Where", site.op("IsNaN", b), a, both))


@operation(*_COMPARISONS)
def comparison(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    return site.op(_COMPARISONS[_kind(site)], *site.common(x1, x2))


@operation("NotEqual")
def not_equal(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    return site.op("Not", site.op("Equal", *site.common(x1, x2)))


@operation(*_LOGIC)
def logic(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    return site.op(_LOGIC[_kind(site)], *site.promoted(x1, x2, to=ir.DataType.BOOL))


@operation("LogicalNot")
def logical_not(site: CallSite, x: Any) -> ir.Value:
    return site.op("Not", site.cast(site.tensor(x), ir.DataType.BOOL))


@operation(*_BITS)
def bits(site: CallSite, x: Any, y: Any) -> ir.Value:
    op_type = _BITS[_kind(site)]
    return site.op(op_type.removeprefix("Bitwise") if site.dtype == ir.DataType.BOOL else op_type, *site.promoted(x, y))


@operation("BitwiseInvert", "BitwiseNot")
def bitwise_not(site: CallSite, x: Any) -> ir.Value:
    return site.op("Not" if site.tensor(x).dtype == ir.DataType.BOOL else "BitwiseNot", site.tensor(x))


@operation("BitwiseLeftShift", "LeftShift", "BitwiseRightShift", "RightShift")
def shift(site: CallSite, x: Any, y: Any) -> ir.Value:
    """Unsigned numbers are shifted; of signed ones it is the product with, or the floored quotient by, a power of two.

    That is done in int64, where the powers fit. Those of int64 itself may not, so it takes two steps of half the way.
    """
    left = "Left" in _kind(site)
    a, b = site.promoted(x, y)
    if not a.dtype.is_signed():
        return site.op("BitShift", a, b, direction="LEFT" if left else "RIGHT")
    dtype, a, b = a.dtype, site.cast(a, ir.DataType.INT64), site.cast(b, ir.DataType.INT64)
    half = site.op("Div", b, 2)
    steps = [half, site.op("Sub", b, half)] if dtype == ir.DataType.INT64 else [b]
    for step in steps:
        power = site.op("Pow", site.build.value(2, a.dtype), step)
        a = site.op("Mul", a, power) if left else site.op("Div", site.op("Sub", a, site.op("Mod", a, power)), power)
    return site.cast(a, dtype)


@operation("Square")
def square(site: CallSite, x: Any) -> ir.Value:
    return site.op("Mul", site.tensor(x), site.tensor(x))


@operation("Rsqrt")
def rsqrt(site: CallSite, x: Any) -> ir.Value:
    return site.op("Reciprocal", site.op("Sqrt", as_float(site, x)))


@operation("Erfc")
def erfc(site: CallSite, x: Any) -> ir.Value:
    return site.op("Sub", 1.0, site.op("Erf", as_float(site, x)))


@operation("Erfinv")
def erfinv(site: CallSite, x: Any) -> ir.Value:
    return site.op("Erfinv", as_float(site, x), domain=DOMAIN)


@operation("Expm1")
def expm1(site: CallSite, x: Any) -> ir.Value:
    return site.op("Sub", site.op("Exp", as_float(site, x)), 1.0)


@operation("Log1p")
def log1p(site: CallSite, x: Any) -> ir.Value:
    return site.op("Log", site.op("Add", as_float(site, x), 1.0))


@operation("Log2", "Log10")
def log_to_base(site: CallSite, x: Any) -> ir.Value:
    return site.op("Div", site.op("Log", as_float(site, x)), math.log(2 if _kind(site) == "Log2" else 10))


@operation("Exp2")
def exp2(site: CallSite, x: Any) -> ir.Value:
    x = as_float(site, x)
    return site.op("Pow", site.build.value(2.0, x.dtype), x)


@operation("Logaddexp", "Logaddexp2")
def logaddexp(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    """max + log(1 + exp(-|a - b|)), the numbers of base 2 likewise."""
    a, b = site.promoted(x1, x2)
    base = 1.0 if _kind(site) == "Logaddexp" else math.log(2)
    gap = site.op("Mul", site.op("Abs", site.op("Sub", a, b)), -base)
    more = site.op("Div", site.op("Log", site.op("Add", site.op("Exp", gap), 1.0)), base)
    return site.op("Add", site.op("Max", a, b), more)


@operation("Deg2rad", "Rad2deg")
def degrees(site: CallSite, x: Any) -> ir.Value:
    return site.op("Mul", as_float(site, x), math.pi / 180 if _kind(site) == "Deg2rad" else 180 / math.pi)


@operation("Hypot")
def hypot(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    return site.op("Sqrt", site.op("Add", site.op("Mul", a, a), site.op("Mul", b, b)))


@operation("Cbrt")
def cbrt(site: CallSite, x: Any) -> ir.Value:
    x = as_float(site, x)
    return site.op("Mul", site.op("Sign", x), site.op("Pow", site.op("Abs", x), 1 / 3))


@operation("Sinc")
def sinc(site: CallSite, x: Any) -> ir.Value:
    x = as_float(site, x)
    angle = site.op("Mul", x, math.pi)
    none, one = site.op("Equal", x, 0.0), site.build.value(1.0, x.dtype)
    return site.op("Where", none, one, site.op("Div", site.op("Sin", angle), site.op("Where", none, one, angle)))


@operation("Arctan2")
def arctan2(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    """atan(y / x), by the quadrant: plus pi, minus pi, or half of it where x is zero."""
    y, x = site.promoted(x1, x2)
    zero, one = site.build.value(0.0, x.dtype), site.build.value(1.0, x.dtype)
    none = site.op("Equal", x, zero)
    angle = site.op("Atan", site.op("Div", y, site.op("Where", none, one, x)))
    turn = site.op(
        "Where", site.op("Less", y, zero), site.build.value(-math.pi, x.dtype), site.build.value(math.pi, x.dtype)
    )
    angle = site.op("Where", site.op("Less", x, zero), site.op("Add", angle, turn), angle)
    upright = site.op("Mul", site.op("Sign", y), math.pi / 2)
    return site.op("Where", none, upright, angle)


@operation("ConvertToTensor")
def convert_to_tensor(site: CallSite, x: Any, **_: Any) -> ir.Value:
    """The very tensor, as in Keras, whose losses look for the softmax that made it."""
    return site.tensor(x)


@operation("Angle")
def angle(site: CallSite, x: Any) -> ir.Value:
    """Of real numbers: pi of those below zero."""
    (x,) = site.promoted(x)
    below = site.op("Less", x, 0.0)
    return site.op("Where", below, site.build.value(math.pi, x.dtype), site.build.value(0.0, x.dtype))


@operation("Ldexp")
def ldexp(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    """x1 * 2 ** x2; the power may be beyond all numbers where x1 is zero or infinite."""
    a, b = site.promoted(x1, x2)
    y = site.op("Mul", a, site.op("Pow", site.build.value(2.0, a.dtype), b))
    return site.op("Where", site.op("Or", site.op("IsInf", a), site.op("Equal", a, 0.0)), a, y)


@operation("Heaviside")
def heaviside(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.promoted(x1, x2)
    zero = site.build.value(0, a.dtype)
    step = site.cast(site.op("Greater", a, zero), a.dtype)
    return site.op("Where", site.op("Equal", a, zero), b, step)


@operation("Trunc")
def trunc(site: CallSite, x: Any) -> ir.Value:
    x = site.tensor(x)
    return site.op("Mul", site.op("Sign", x), site.op("Floor", site.op("Abs", x))) if x.dtype.is_floating_point() else x


@operation("Round")
def round_(site: CallSite, x: Any) -> ir.Value:
    x, decimals = site.tensor(x), site.source.decimals
    if not x.dtype.is_floating_point():
        if decimals < 0:
            site.refuse("rounding integers to tens")
        return x
    if not decimals:
        return site.op("Round", x)
    return site.op("Div", site.op("Round", site.op("Mul", x, 10.0**decimals)), 10.0**decimals)


@operation("Clip")
def clip_between(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    (x,) = site.promoted(x)
    low, high = (None if end is None else site.promoted(end)[0] for end in (kind.x_min, kind.x_max))
    if all(end is None or end.shape == () for end in (low, high)):
        return site.op("Clip", x, low, high)
    x = x if low is None else site.op("Max", x, low)
    return x if high is None else site.op("Min", x, high)


@operation("Cast", "SaturateCast", "View")
def cast(site: CallSite, x: Any) -> ir.Value:
    if _kind(site) == "View":
        site.refuse("reading numbers as another dtype's bits")
    x = site.tensor(x)
    if _kind(site) == "SaturateCast" and not site.dtype.is_floating_point() and site.dtype != ir.DataType.BOOL:
        ends = np.iinfo(site.dtype.numpy())
        if x.dtype.is_floating_point():
            x = clip(site, x, float(ends.min), float(ends.max))
    if x.dtype.is_floating_point() and site.dtype == ir.DataType.BOOL:
        return site.op("Not", site.op("Equal", x, 0.0))
    return site.cast(x, site.dtype)


@operation("Isfinite")
def isfinite(site: CallSite, x: Any) -> ir.Value:
    x = as_float(site, x)
    return site.op("Not", site.op("Or", site.op("IsNaN", x), site.op("IsInf", x)))


@operation("Isinf", "Isposinf", "Isneginf")
def isinf(site: CallSite, x: Any) -> ir.Value:
    signs = {"Isposinf": {"detect_negative": 0}, "Isneginf": {"detect_positive": 0}}.get(_kind(site), {})
    return site.op("IsInf", as_float(site, x), **signs)


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
    gap = site.op("Abs", site.op("Sub", a, b))
    near = site.op("LessOrEqual", gap, site.op("Add", site.op("Mul", site.op("Abs", b), rtol), atol))
    if finite:
        near = site.op("And", near, site.op("Less", gap, np.inf))
    near = site.op("Or", near, equal)
    if not equal_nan:
        return near
    return site.op("Or", near, site.op("And", site.op("IsNaN", a), site.op("IsNaN", b)))


@operation("NanToNum")
def nan_to_num(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    if not x.dtype.is_floating_point():
        return x
    ends = np.finfo(x.dtype.numpy())
    high = float(ends.max) if kind.posinf is None else float(kind.posinf)
    low = float(ends.min) if kind.neginf is None else float(kind.neginf)
    numbers = [site.build.value(n, x.dtype) for n in (float(kind.nan), high, low)]
    infinite = [site.op("IsInf", x, detect_negative=0), site.op("IsInf", x, detect_positive=0)]
    y = site.op("Where", site.op("IsNaN", x), numbers[0], x)
    y = site.op("Where", infinite[0], numbers[1], y)
    return site.op("Where", infinite[1], numbers[2], y)


@operation("Where")
def where(site: CallSite, condition: Any, x1: Any = None, x2: Any = None) -> ir.Value:
    if x1 is None:
        site.refuse("where with a condition alone: the number of results is not known before")
    return site.op("Where", site.cast(site.tensor(condition), ir.DataType.BOOL), *site.promoted(x1, x2))


@operation("Select")
def select(site: CallSite, condlist: Any, choicelist: Any, default: Any = 0) -> ir.Value:
    (y,) = site.promoted(default)
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        y = site.op("Where", site.cast(site.tensor(condition), ir.DataType.BOOL), site.promoted(choice)[0], y)
    return y


@operation("Real", "Conj", "Conjugate")
def real_part(site: CallSite, x: Any) -> ir.Value:
    return site.op("Identity", _of_reals(site, x))


def _of_reals(site: CallSite, x: Any) -> ir.Value:
    x = site.tensor(x)
    if x.dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        site.refuse("of complex numbers")
    return x


@operation("Imag")
def imaginary_part(site: CallSite, x: Any) -> ir.Value:
    x = _of_reals(site, x)
    return site.op("Expand", site.build.value(0, x.dtype), site.op("Shape", x))


@operation("ZerosLike", "OnesLike", "EmptyLike", "FullLike")
def like(site: CallSite, x: Any, fill_value: Any = None) -> ir.Value:
    number = {"OnesLike": 1}.get(_kind(site), 0) if fill_value is None else fill_value
    return site.op("Expand", site.promoted(number)[0], site.op("Shape", site.tensor(x)))


@operation("Isreal")
def isreal(site: CallSite, x: Any) -> ir.Value:
    return site.op("Expand", site.build.value(True), site.op("Shape", _of_reals(site, x)))


@operation("Signbit")
def signbit(site: CallSite, x: Any) -> ir.Value:
    """Below zero, or the zero whose reciprocal is: -0.0."""
    x = site.tensor(x)
    below = site.op("Less", x, site.build.value(0, x.dtype))
    if not x.dtype.is_floating_point():
        return below
    none = site.op("Equal", x, 0.0)
    return site.op("Or", below, site.op("And", none, site.op("Less", site.op("Reciprocal", x), 0.0)))
