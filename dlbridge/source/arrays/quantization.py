"""Quantisation, and matrix products on quantised numbers."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.ops.extension import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call

quantization = Family()


def _layout(op: Op) -> dict[str, Any]:
    """Where scales and zero points lie: along an axis, or one for each block of it."""
    if op.shape(1) in ([], [1]):
        return {}
    keywords = {"axis": op.axis()}
    return keywords | ({"block_size": op.attr("block_size")} if op.attr("block_size") else {})


@quantization("QuantizeLinear")
def quantize(op: Op, arrays: ArrayDialect) -> Code:
    keywords: dict[str, Any] = {"zero_point": op[2]} if op.has(2) else {}
    keywords |= _layout(op)
    precision = op.attr("precision")
    keywords |= {"precision": arrays.dtype(op, ir.DataType(precision))} if precision else {}
    keywords |= {} if op.attr("saturate") else {"saturate": False}
    return call("quantize", op.x, op[1], arrays.dtype(op, op.out_dtype()), **keywords)


@quantization("DequantizeLinear")
def dequantize(op: Op, arrays: ArrayDialect) -> Code:
    arrays.dtype(op, op.dtype())  # refuses what the framework lacks
    keywords: dict[str, Any] = {"zero_point": op[2]} if op.has(2) else {}
    keywords |= _layout(op)
    return call("dequantize", op.x, op[1], arrays.dtype(op, op.out_dtype()), **keywords)


@quantization("DynamicQuantizeLinear")
def dynamic_quantize(op: Op, arrays: ArrayDialect) -> Code:
    return call("dynamic_quantize", op.x)


@quantization("MatMulInteger")
def matmul_integer(op: Op, arrays: ArrayDialect) -> Code:
    slots = {"a_zero": 2, "b_zero": 3}
    return call("matmul_integer", op[0], op[1], **{k: op[i] for k, i in slots.items() if op.has(i)})


@quantization("QLinearMatMul")
def qlinear_matmul(op: Op, arrays: ArrayDialect) -> Code:
    return call("quantized_matmul", *(op[i] for i in range(8)), arrays.dtype(op, op.out_dtype()))


@quantization("FakeQuantize", domain=DOMAIN)
def fake_quantize(op: Op, arrays: ArrayDialect) -> Code:
    return call("fake_quantize", op[0], op[1], op[2], op.attr("quant_min"), op.attr("quant_max"))
