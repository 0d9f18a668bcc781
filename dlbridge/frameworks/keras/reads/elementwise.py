"""``keras.ops`` that work on each element."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, elementwise, ends_of, operation
from dlbridge.ops import formulas
from dlbridge.ops.extension import DOMAIN

_SAME_NAME = ("Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log", "Reciprocal", "Sin", "Sinh", "Sqrt", "Tan")
#: Operation on floats -> ONNX op or formula.
_FLOAT: dict[str, str | formulas.Formula] = dict(zip(_SAME_NAME, _SAME_NAME, strict=True))
_FLOAT |= {"Arccos": "Acos", "Arccosh": "Acosh", "Arcsin": "Asin", "Arcsinh": "Asinh", "Arctan": "Atan"}
_FLOAT |= {"Arctanh": "Atanh", "Isnan": "IsNaN", "Isfinite": formulas.is_finite, "Sinc": formulas.sinc}
_FLOAT |= {"Exp2": formulas.exp2, "Expm1": formulas.expm1, "Rsqrt": formulas.rsqrt, "Log10": formulas.log10}
_FLOAT |= {"Log1p": formulas.log1p, "Log2": formulas.log2, "Deg2rad": formulas.deg2rad, "Rad2deg": formulas.rad2deg}
#: Operation on numbers of any type -> ONNX op or formula.
_ANY = {"Absolute": "Abs", "Abs": "Abs", "Fabs": "Abs", "Negative": "Neg", "Sign": "Sign"}
_ANY |= {"Copy": "Identity", "Array": "Identity"}
#: Operation on two numbers -> formula.
_OF_TWO = {"Arctan2": formulas.atan2, "Hypot": formulas.hypot}
_OF_TWO |= {"Logaddexp": formulas.logaddexp, "Logaddexp2": formulas.logaddexp2}

elementwise(
    CallSite.floats, _FLOAT | {"Cbrt": lambda site, x: site.op("Sign", x) * site.op("Pow", site.op("Abs", x), 1 / 3)}
)
elementwise(CallSite.floats, {"Isinf": "IsInf"})
elementwise(CallSite.floats, {"Isposinf": "IsInf"}, detect_negative=0)
elementwise(CallSite.floats, {"Isneginf": "IsInf"}, detect_positive=0)
elementwise(CallSite.floats, {"Erfc": "Erfc", "Erfinv": "Erfinv", "I0": "BesselI0"}, domain=DOMAIN)
elementwise(CallSite.tensors, _ANY | {"Square": formulas.square})
elementwise(CallSite.promoted, _OF_TWO)
elementwise(CallSite.tensors, {"StopGradient": "StopGradient"}, domain=DOMAIN)


@operation("ConvertToTensor")
def convert_to_tensor(site: CallSite, x: Any, **_: Any) -> ir.Value:
    """The same tensor, as in Keras, whose losses look for the softmax that produced it."""
    return site.tensor(x)


@operation("Angle", operands=CallSite.promoted)
def angle(site: CallSite, x: ir.Value) -> ir.Value:
    """The angle of real numbers: pi below zero, else 0."""
    return site.op("Where", site.op("Less", x, 0.0), site.number(math.pi, x.dtype), 0.0)


@operation("Ldexp", operands=CallSite.promoted)
def ldexp(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    """x1 * 2 ** x2; the power may be beyond all numbers where x1 is zero or infinite."""
    y = a * site.op("Pow", 2.0, b)
    return site.op("Where", site.op("Or", site.op("IsInf", a), site.op("Equal", a, 0.0)), a, y)


@operation("Heaviside", operands=CallSite.promoted)
def heaviside(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    step = site.cast(site.op("Greater", a, 0), a.dtype)
    return site.op("Where", site.op("Equal", a, 0), b, step)


@operation("Trunc", operands=CallSite.tensors)
def trunc(site: CallSite, x: ir.Value) -> ir.Value:
    return formulas.truncated(site, x) if x.dtype.is_floating_point() else x


@operation("Round")
def round_(site: CallSite, x: Any) -> ir.Value:
    x, decimals = site.tensor(x), site.source.decimals
    if not x.dtype.is_floating_point():
        if decimals < 0:
            site.refuse("rounding integers to tens")
        return x
    return formulas.rounded(site, x, decimals)


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


@operation("Cast", "View")
def cast(site: CallSite, x: Any) -> ir.Value:
    if site.operation == "View":
        site.refuse("reading numbers as another dtype's bits")
    x = site.tensor(x)
    if x.dtype.is_floating_point() and site.dtype == ir.DataType.BOOL:
        return site.op("Not", site.op("Equal", x, 0.0))
    return site.cast(x, site.dtype)


@operation("NanToNum")
def nan_to_num(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    if not x.dtype.is_floating_point():
        return x
    low, high = ends_of(x.dtype)
    high = high if kind.posinf is None else float(kind.posinf)
    low = low if kind.neginf is None else float(kind.neginf)
    return formulas.finite(site, x, float(kind.nan), high, low)


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
    return site.op("Expand", site.number(0, x.dtype), site.op("Shape", x))


@operation("ZerosLike", "OnesLike", "EmptyLike", "FullLike")
def like(site: CallSite, x: Any, fill_value: Any = None) -> ir.Value:
    number = {"OnesLike": 1}.get(site.operation, 0) if fill_value is None else fill_value
    return site.op("Expand", site.promoted(number)[0], site.op("Shape", site.tensor(x)))


@operation("Isreal")
def isreal(site: CallSite, x: Any) -> ir.Value:
    return site.op("Expand", site.number(True, ir.DataType.BOOL), site.op("Shape", _of_reals(site, x)))


@operation("Signbit", operands=CallSite.tensors)
def signbit(site: CallSite, x: ir.Value) -> ir.Value:
    return formulas.has_sign(site, x) if x.dtype.is_floating_point() else site.op("Less", x, 0)
