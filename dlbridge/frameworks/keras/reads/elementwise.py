"""``keras.ops`` that work on each element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.activation import as_float, clip
from dlbridge.ops.extension import DOMAIN

#: Operation on floats -> ONNX op.
_FLOAT = {"Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan", "Sinh": "Sinh"}
_FLOAT |= {"Cosh": "Cosh", "Arcsin": "Asin", "Arccos": "Acos", "Arctan": "Atan", "Arcsinh": "Asinh", "Erf": "Erf"}
_FLOAT |= {"Arccosh": "Acosh", "Arctanh": "Atanh", "Floor": "Floor", "Ceil": "Ceil", "Reciprocal": "Reciprocal"}
_FLOAT |= {"Isnan": "IsNaN"}
#: Operation on numbers of any type -> ONNX op.
_ANY = {"Absolute": "Abs", "Abs": "Abs", "Fabs": "Abs", "Negative": "Neg", "Sign": "Sign", "StopGradient": "Identity"}
_ANY |= {"Copy": "Identity", "Array": "Identity"}


@operation(*_FLOAT)
def of_floats(site: CallSite, x: Any) -> ir.Value:
    return site.op(_FLOAT[site.operation], as_float(site, x))


@operation(*_ANY)
def of_numbers(site: CallSite, x: Any) -> ir.Value:
    return site.op(_ANY[site.operation], site.tensor(x))


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
    return site.op("Div", site.op("Log", as_float(site, x)), math.log(2 if site.operation == "Log2" else 10))


@operation("Exp2")
def exp2(site: CallSite, x: Any) -> ir.Value:
    x = as_float(site, x)
    return site.op("Pow", site.build.value(2.0, x.dtype), x)


@operation("Logaddexp", "Logaddexp2")
def logaddexp(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    """max + log(1 + exp(-|a - b|)), and the same to base 2."""
    a, b = site.promoted(x1, x2)
    base = 1.0 if site.operation == "Logaddexp" else math.log(2)
    gap = site.op("Mul", site.op("Abs", site.op("Sub", a, b)), -base)
    more = site.op("Div", site.op("Log", site.op("Add", site.op("Exp", gap), 1.0)), base)
    return site.op("Add", site.op("Max", a, b), more)


@operation("Deg2rad", "Rad2deg")
def degrees(site: CallSite, x: Any) -> ir.Value:
    return site.op("Mul", as_float(site, x), math.pi / 180 if site.operation == "Deg2rad" else 180 / math.pi)


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
    """The same tensor, as in Keras, whose losses look for the softmax that produced it."""
    return site.tensor(x)


@operation("Angle")
def angle(site: CallSite, x: Any) -> ir.Value:
    """The angle of real numbers: pi below zero, else 0."""
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
    if low is not None:
        x = site.op("Max", x, low)
    return x if high is None else site.op("Min", x, high)


@operation("Cast", "SaturateCast", "View")
def cast(site: CallSite, x: Any) -> ir.Value:
    if site.operation == "View":
        site.refuse("reading numbers as another dtype's bits")
    x = site.tensor(x)
    if site.operation == "SaturateCast" and not site.dtype.is_floating_point() and site.dtype != ir.DataType.BOOL:
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
    signs = {"Isposinf": {"detect_negative": 0}, "Isneginf": {"detect_positive": 0}}.get(site.operation, {})
    return site.op("IsInf", as_float(site, x), **signs)


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
    number = {"OnesLike": 1}.get(site.operation, 0) if fill_value is None else fill_value
    return site.op("Expand", site.promoted(number)[0], site.op("Shape", site.tensor(x)))


@operation("Isreal")
def isreal(site: CallSite, x: Any) -> ir.Value:
    return site.op("Expand", site.build.value(True), site.op("Shape", _of_reals(site, x)))


@operation("Signbit")
def signbit(site: CallSite, x: Any) -> ir.Value:
    """Whether the sign bit is set: below zero, or -0.0, whose reciprocal is minus infinity."""
    x = site.tensor(x)
    below = site.op("Less", x, site.build.value(0, x.dtype))
    if not x.dtype.is_floating_point():
        return below
    none = site.op("Equal", x, 0.0)
    return site.op("Or", below, site.op("And", none, site.op("Less", site.op("Reciprocal", x), 0.0)))
