"""Comparison, logic, and choosing by a condition."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch.fx.tensors import is_float, onnx_dtype, torch_dtype
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.ops import formulas

_COMPARE = {
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}


def common_dtype(op: Op, x: Any, y: Any) -> ir.DataType:
    """The dtype in which two operands are compared, as torch promotes them."""

    def sample(value: Any) -> Any:
        if not isinstance(value, ir.Value):
            return value if isinstance(value, (int, float)) else 0
        return torch.empty([1] * len(value.meta.get("sizes") or ()), dtype=torch_dtype(value))

    return onnx_dtype(torch.result_type(sample(x), sample(y)))


@reads(*(f"aten.{name}" for name in _COMPARE))
def compare(op: Op, x: Any, y: Any) -> ir.Value:
    op_type, dtype = _COMPARE[op.name], common_dtype(op, x, y)
    if dtype == ir.DataType.BOOL and op_type != "Equal":
        dtype = ir.DataType.INT32
    return op.binary(op_type, x, y, dtype)


@reads("aten.ne", "aten.not_equal")
def not_equal(op: Op, x: Any, y: Any) -> ir.Value:
    return op("Not", op.binary("Equal", x, y, common_dtype(op, x, y)))


_LOGIC = {"and": ("And", "BitwiseAnd"), "or": ("Or", "BitwiseOr"), "xor": ("Xor", "BitwiseXor")}


def _is_true(value: Any) -> bool:
    """Whether an operand is the one constant True."""
    tensor = value.const_value if isinstance(value, ir.Value) else None
    return tensor is not None and tensor.size == 1 and tensor.dtype == ir.DataType.BOOL and bool(tensor.numpy().all())


def _logic(kind: str) -> Any:
    def rule(op: Op, x: Any, y: Any) -> ir.Value:
        logical, bitwise = _LOGIC[kind]
        if kind == "and":
            kept = [v for v in (x, y) if not _is_true(v)]
            if len(kept) == 1 and kept[0].meta.get("sizes") == op.sizes:
                return op.cast(kept[0])
        return op.binary(logical if op.dtype == ir.DataType.BOOL else bitwise, x, y)

    return rule


for _kind in _LOGIC:
    reads(f"aten.logical_{_kind}", f"aten.bitwise_{_kind}", f"aten.__{_kind}__", f"aten.__i{_kind}__")(_logic(_kind))


@reads("aten.bitwise_not")
def bitwise_not(op: Op, x: ir.Value) -> ir.Value:
    return op("Not" if x.dtype == ir.DataType.BOOL else "BitwiseNot", x)


@reads("aten.isnan", "aten.isinf")
def is_special(op: Op, x: ir.Value) -> ir.Value:
    if not is_float(x):
        return op("Not", op("Equal", x, x))
    return op("IsNaN" if op.name == "isnan" else "IsInf", x)


@reads("aten.signbit")
def signbit(op: Op, x: ir.Value) -> ir.Value:
    return formulas.has_sign(op, x) if is_float(x) else op("Less", x, 0)


@reads("aten.copysign")
def copysign(op: Op, x: ir.Value, y: Any) -> ir.Value:
    size = op("Abs", op.cast(x))
    return op("Where", signbit(op, op.cast(y)), -size, size)


@reads("aten.isfinite")
def isfinite(op: Op, x: ir.Value) -> ir.Value:
    if not is_float(x):
        return op("Equal", x, x)
    return formulas.is_finite(op, x)


@reads("aten.isposinf", "aten.isneginf")
def is_signed_inf(op: Op, x: ir.Value) -> ir.Value:
    positive = int(op.name == "isposinf")
    if not is_float(x):
        return op("Not", op("Equal", x, x))
    return op("IsInf", x, detect_positive=positive, detect_negative=1 - positive)


@reads("aten.where")
def where(op: Op, condition: ir.Value, x: Any, y: Any) -> ir.Value:
    return op("Where", op.cast(condition, ir.DataType.BOOL), op.cast(x), op.cast(y))


@reads("aten.masked_fill")
def masked_fill(op: Op, x: ir.Value, mask: ir.Value, value: Any) -> ir.Value:
    return op("Where", mask, op.cast(value), op.cast(x))
