"""Elementwise arithmetic, comparison and logic."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch.reading import DTYPES, Op, is_float, like, onnx_dtype, reads

#: ATen op -> the standard's op on one tensor; integers are computed in the result's dtype.
_UNARY = {
    "abs": "Abs",
    "absolute": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "arccos": "Acos",
    "arcsin": "Asin",
    "arctan": "Atan",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "special_erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "neg": "Neg",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "sign": "Sign",
    "sgn": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "logical_not": "Not",
}


def _unary(op_type: str) -> Any:
    return lambda op, x: op(op_type, op.cast(x, op.dtype))


for _name, _op_type in _UNARY.items():
    reads(f"aten.{_name}")(_unary(_op_type))


@reads("aten.ceil", "aten.floor", "aten.trunc", "aten.fix", "aten.round")
def rounded(op: Op, x: ir.Value, *, decimals: int = 0) -> ir.Value:
    if not is_float(x):
        return x
    if op.name in ("trunc", "fix"):
        return _truncated(op, x)
    if decimals:
        scale = 10.0**decimals
        return op("Div", op("Round", op("Mul", x, scale)), scale)
    return op(op.name.capitalize(), x)


def _truncated(op: Op, x: ir.Value) -> ir.Value:
    return op("Mul", op("Floor", op("Abs", x)), op("Sign", x))


@reads("aten.frac")
def fraction(op: Op, x: ir.Value) -> ir.Value:
    return op("Sub", x, _truncated(op, x))


@reads("aten.rsqrt")
def rsqrt(op: Op, x: ir.Value) -> ir.Value:
    return op("Reciprocal", op("Sqrt", op.cast(x, op.dtype)))


@reads("aten.square")
def square(op: Op, x: ir.Value) -> ir.Value:
    return op("Mul", x, x)


@reads("aten.exp2", "aten.special_exp2")
def exp2(op: Op, x: ir.Value) -> ir.Value:
    return op("Pow", op.number(2, op.dtype), op.cast(x, op.dtype))


@reads("aten.expm1", "aten.special_expm1")
def expm1(op: Op, x: ir.Value) -> ir.Value:
    return op("Sub", op("Exp", op.cast(x, op.dtype)), 1)


@reads("aten.log1p", "aten.special_log1p")
def log1p(op: Op, x: ir.Value) -> ir.Value:
    return op("Log", op("Add", op.cast(x, op.dtype), 1))


@reads("aten.log2")
def log2(op: Op, x: ir.Value) -> ir.Value:
    return op("Div", op("Log", op.cast(x, op.dtype)), math.log(2))


@reads("aten.log10")
def log10(op: Op, x: ir.Value) -> ir.Value:
    return op("Div", op("Log", op.cast(x, op.dtype)), math.log(10))


@reads("aten.erfc", "aten.special_erfc")
def erfc(op: Op, x: ir.Value) -> ir.Value:
    return op("Sub", op.number(1, op.dtype), op("Erf", op.cast(x, op.dtype)))


@reads("aten.sinc", "aten.special_sinc")
def sinc(op: Op, x: ir.Value) -> ir.Value:
    scaled = op("Mul", op.cast(x, op.dtype), math.pi)
    zero = op("Equal", scaled, 0)
    one = op.number(1, op.dtype)
    return op("Where", zero, one, op("Div", op("Sin", scaled), op("Where", zero, one, scaled)))


@reads("aten.deg2rad")
def deg2rad(op: Op, x: ir.Value) -> ir.Value:
    return op("Mul", op.cast(x, op.dtype), math.pi / 180)


# --- two operands --------------------------------------------------------------------------------------------------


@reads("aten.add", "aten.sub", "aten.subtract")
def add(op: Op, x: Any, y: Any, alpha: Any = 1) -> ir.Value:
    name = "Sub" if op.name.startswith("sub") else "Add"
    if op.dtype == ir.DataType.BOOL:
        return op.binary("Or", x, y)
    if alpha != 1:
        y = op("Mul", op.cast(y, op.dtype), op.number(alpha, op.dtype))
    return op.binary(name, x, y)


@reads("aten.rsub")
def rsub(op: Op, x: ir.Value, y: Any, alpha: Any = 1) -> ir.Value:
    x = x if alpha == 1 else op("Mul", op.cast(x, op.dtype), op.number(alpha, op.dtype))
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
    quotient = op.binary("Div", x, y)
    if rounding_mode is None:
        return quotient
    if op.dtype.is_floating_point():
        return op("Floor", quotient) if rounding_mode == "floor" else _truncated(op, quotient)
    if rounding_mode == "trunc":
        return quotient
    # ONNX truncates: one less where there is a rest and the signs differ. Mod has the divisor's sign.
    rest = op.binary("Mod", x, y)
    return op("Div", op("Sub", op.cast(x, op.dtype), rest), op.cast(y, op.dtype))


@reads("aten.remainder")
def remainder(op: Op, x: Any, y: Any) -> ir.Value:
    if not op.dtype.is_floating_point():
        return op.binary("Mod", x, y)
    x, y = op.cast(x, op.dtype), op.cast(y, op.dtype)
    return op("Sub", x, op("Mul", op("Floor", op("Div", x, y)), y))


@reads("aten.fmod")
def fmod(op: Op, x: Any, y: Any) -> ir.Value:
    return op("Mod", op.cast(x, op.dtype), op.cast(y, op.dtype), fmod=1)


@reads("aten.pow", "aten.float_power")
def power(op: Op, x: Any, exponent: Any) -> ir.Value:
    if isinstance(exponent, (int, float)) and op.dtype.is_floating_point():
        base = op.cast(x, op.dtype)
        if exponent in (1, 2):
            return base if exponent == 1 else op("Mul", base, base)
        if exponent in (0.5, -0.5):
            root = op("Sqrt", base)
            return root if exponent > 0 else op("Reciprocal", root)
    return op.binary("Pow", x, exponent)


@reads("aten.maximum", "aten.fmax", "aten.max.other")
def maximum(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.binary("Or" if op.dtype == ir.DataType.BOOL else "Max", x, y)


@reads("aten.minimum", "aten.fmin", "aten.min.other")
def minimum(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.binary("And" if op.dtype == ir.DataType.BOOL else "Min", x, y)


@reads("aten.clamp", "aten.clip")
def clamp(op: Op, x: ir.Value, min: Any = None, max: Any = None) -> ir.Value:
    """Limits that are tensors may broadcast, which Clip's may not."""
    x = op.cast(x, op.dtype)
    if any(isinstance(v, ir.Value) for v in (min, max)):
        x = x if min is None else op("Max", x, op.cast(min, op.dtype))
        return x if max is None else op("Min", x, op.cast(max, op.dtype))
    return op("Clip", x, *(None if v is None else op.number(v, op.dtype) for v in (min, max)))


@reads("aten.clamp_min")
def clamp_min(op: Op, x: ir.Value, min: Any) -> ir.Value:
    return clamp(op, x, min, None)


@reads("aten.clamp_max")
def clamp_max(op: Op, x: ir.Value, max: Any) -> ir.Value:
    return clamp(op, x, None, max)


@reads("aten.atan2", "aten.arctan2")
def atan2(op: Op, y: ir.Value, x: ir.Value) -> ir.Value:
    """atan(y / x), turned by pi on the left half, and +-pi/2 where x is 0."""
    zero = op.number(0, op.dtype)
    turn = op("Where", op("Less", y, zero), op.number(-math.pi, op.dtype), op.number(math.pi, op.dtype))
    base = op("Atan", op("Div", y, op("Where", op("Equal", x, zero), op.number(1, op.dtype), x)))
    result = op("Where", op("Less", x, zero), op("Add", base, turn), base)
    upright = op("Mul", op("Sign", y), math.pi / 2)
    return op("Where", op("Equal", x, zero), upright, result)


@reads("aten.lerp")
def lerp(op: Op, x: ir.Value, end: ir.Value, weight: Any) -> ir.Value:
    return op("Add", x, op("Mul", op("Sub", end, x), op.cast(weight, op.dtype)))


@reads("aten.addcmul", "aten.addcdiv")
def addcmul(op: Op, x: ir.Value, a: ir.Value, b: ir.Value, *, value: Any = 1) -> ir.Value:
    part = op.binary("Div" if op.name == "addcdiv" else "Mul", a, b)
    return op("Add", op.cast(x, op.dtype), part if value == 1 else op("Mul", part, value))


@reads("aten.hypot")
def hypot(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op("Sqrt", op("Add", op("Mul", x, x), op("Mul", y, y)))


@reads("aten.logaddexp")
def logaddexp(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """max + log(1 + exp(-|x - y|)), which does not overflow."""
    return op("Add", op("Max", x, y), op("Softplus", op("Neg", op("Abs", op("Sub", x, y)))))


@reads("aten.xlogy", "aten.special_xlogy")
def xlogy(op: Op, x: Any, y: Any) -> ir.Value:
    x, y = op.cast(x, op.dtype), op.cast(y, op.dtype)
    return op("Where", op("Equal", x, 0), op.number(0, op.dtype), op("Mul", x, op("Log", y)))


# --- comparison and logic ------------------------------------------------------------------------------------------

_COMPARE = {
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "less": "Less",
    "greater": "Greater",
}


def common_dtype(op: Op, x: Any, y: Any) -> ir.DataType:
    """The dtype in which two operands are compared, as torch promotes them."""

    def sample(value: Any) -> Any:
        if not isinstance(value, ir.Value):
            return value if isinstance(value, (int, float)) else 0
        dtype = torch_dtype(value)
        return torch.empty(
            [1] * max(1, len(value.meta.get("sizes", [1]))) if value.meta.get("sizes") else [], dtype=dtype
        )

    return onnx_dtype(torch.result_type(sample(x), sample(y)))


def torch_dtype(value: ir.Value) -> torch.dtype:
    """The dtype of a real value as torch has it."""
    return next(t for t, d in DTYPES.items() if d == value.dtype)


def _compare(op_type: str) -> Any:
    def rule(op: Op, x: Any, y: Any) -> ir.Value:
        dtype = common_dtype(op, x, y)
        if dtype == ir.DataType.BOOL and op_type != "Equal":
            dtype = ir.DataType.INT32
        return op.binary(op_type, x, y, dtype)

    return rule


for _name, _op_type in _COMPARE.items():
    reads(f"aten.{_name}")(_compare(_op_type))


@reads("aten.ne", "aten.not_equal")
def not_equal(op: Op, x: Any, y: Any) -> ir.Value:
    return op("Not", op.binary("Equal", x, y, common_dtype(op, x, y)))


_LOGIC = {"and": ("And", "BitwiseAnd"), "or": ("Or", "BitwiseOr"), "xor": ("Xor", "BitwiseXor")}


def _logic(kind: str) -> Any:
    def rule(op: Op, x: Any, y: Any) -> ir.Value:
        logical, bitwise = _LOGIC[kind]
        return op.binary(logical if op.dtype == ir.DataType.BOOL else bitwise, x, y)

    return rule


for _kind in _LOGIC:
    reads(f"aten.logical_{_kind}", f"aten.bitwise_{_kind}", f"aten.__{_kind}__", f"aten.__i{_kind}__")(_logic(_kind))


@reads("aten.bitwise_not")
def bitwise_not(op: Op, x: ir.Value) -> ir.Value:
    return op("Not" if x.dtype == ir.DataType.BOOL else "BitwiseNot", x)


@reads("aten.bitwise_left_shift", "aten.__lshift__", "aten.bitwise_right_shift", "aten.__rshift__")
def shift(op: Op, x: Any, y: Any) -> ir.Value:
    """By arithmetic: ONNX shifts only unsigned integers."""
    x, factor = op.cast(x, op.dtype), op("Pow", op.number(2, op.dtype), op.cast(y, op.dtype))
    if op.name in ("bitwise_left_shift", "__lshift__"):
        return op("Mul", x, factor)
    return op("Div", op("Sub", x, op("Mod", x, factor)), factor)


@reads("aten.isnan", "aten.isinf")
def is_special(op: Op, x: ir.Value) -> ir.Value:
    if not is_float(x):
        return op("Not", op("Equal", x, x))
    return op("IsNaN" if op.name == "isnan" else "IsInf", x)


@reads("aten.isfinite")
def isfinite(op: Op, x: ir.Value) -> ir.Value:
    if not is_float(x):
        return op("Equal", x, x)
    return op("Not", op("Or", op("IsNaN", x), op("IsInf", x)))


@reads("aten.isposinf", "aten.isneginf")
def is_signed_inf(op: Op, x: ir.Value) -> ir.Value:
    positive = int(op.name == "isposinf")
    return op("IsInf", x, detect_positive=positive, detect_negative=1 - positive)


@reads("aten.nan_to_num")
def nan_to_num(op: Op, x: ir.Value, nan: Any = None, posinf: Any = None, neginf: Any = None) -> ir.Value:
    if not is_float(x):
        return x
    info = torch.finfo(torch_dtype(x))
    limits = (info.max if posinf is None else posinf, info.min if neginf is None else neginf)
    result = op("Where", op("IsNaN", x), op.number(nan or 0.0, x.dtype), x)
    above = op("IsInf", x, detect_negative=0)
    below = op("IsInf", x, detect_positive=0)
    return op("Where", below, op.number(limits[1], x.dtype), op("Where", above, op.number(limits[0], x.dtype), result))


@reads("aten.where")
def where(op: Op, condition: ir.Value, x: Any = None, y: Any = None) -> Any:
    if x is None:
        return op.refuse("where with one argument (nonzero as a tuple)")
    return op("Where", op.cast(condition, ir.DataType.BOOL), op.cast(x, op.dtype), op.cast(y, op.dtype))


@reads("aten.masked_fill")
def masked_fill(op: Op, x: ir.Value, mask: ir.Value, value: Any) -> ir.Value:
    return op("Where", mask, op.cast(value, op.dtype), op.cast(x, op.dtype))


# --- dtypes and copies ---------------------------------------------------------------------------------------------


@reads(
    "aten.to",
    "aten._to_copy",
    "aten.type_as",
    "aten.to.other",
    "aten.contiguous",
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.positive",
    "aten.resolve_conj",
    "aten.resolve_neg",
    "aten.requires_grad",
    "aten.to.dtype_layout",
    "prims.convert_element_type",
)
def same(op: Op, x: ir.Value, *rest: Any, **options: Any) -> ir.Value:
    """The same numbers, in the dtype that the result has."""
    return op.cast(x, op.dtype)


@reads("aten.copy")
def copy(op: Op, x: ir.Value, source: Any) -> ir.Value:
    made = op.cast(source, op.dtype)
    if made.meta.get("sizes") == op.sizes:
        return made
    return like(op("Expand", made, op.sizes), x)


@reads("aten.item", "aten._local_scalar_dense")
def item(op: Op, x: ir.Value) -> ir.Value:
    return x
