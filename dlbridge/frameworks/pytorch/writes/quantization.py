"""Quantisation, and what is computed on quantised numbers."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.frameworks.pytorch.writes.convolution import flat
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.arrays.convolution import sizes_of
from dlbridge.source.code import Code, call, code, single
from dlbridge.source.op import Op
from dlbridge.source.windows import pads_of


@rules("QLinearMatMul")
def qlinear_matmul(op: Op) -> Code:
    return call("quantized_matmul", *(op[i] for i in range(8)))


def _convolution(op: Op, weight_index: int) -> dict[str, Any]:
    _, kernel, strides, dilations = sizes_of(op, weight_index)
    pads = pads_of(op, kernel)
    if pads is None:
        op.refuse("its padding follows from sizes that are known only at run time")
    group = op.attr("group")
    keywords: dict[str, Any] = {"stride": tuple(strides)} if set(strides) != {1} else {}
    keywords |= {"pads": flat(pads or [])} if any(flat(pads or [])) else {}
    keywords |= {"dilation": tuple(dilations)} if set(dilations) != {1} else {}
    return keywords | ({"groups": group} if group != 1 else {})


@rules("ConvInteger")
def conv_integer(op: Op) -> Code:
    slots = {"x_zero": 2, "w_zero": 3}
    return call(
        "conv_integer", op[0], op[1], **{k: op[i] for k, i in slots.items() if op.has(i)}, **_convolution(op, 1)
    )


@rules("QLinearConv")
def qlinear_conv(op: Op) -> Code:
    bias = {"bias": op[8]} if op.has(8) else {}
    return call("quantized_conv", *(op[i] for i in range(8)), **bias, **_convolution(op, 3))


@rules("FakeQuantize", domain=DOMAIN)
def fake_quantize(op: Op) -> Code:
    limits = op.attr("quant_min"), op.attr("quant_max")
    scale, zero = op.scalar(1), op.scalar(2)
    if op.rank(1) == 0 and scale is not None and zero is not None:
        return call("torch.fake_quantize_per_tensor_affine", op.x, single(scale), int(zero), *limits)
    zeros = op[2] if op.dtype(2) == ir.DataType.INT32 else code("{}.to(torch.int32)", op[2])
    if op.rank(1) == 0:
        return call("torch.fake_quantize_per_tensor_affine", op.x, op[1], zeros, *limits)
    wide = [axis for axis, size in enumerate(op.shape(1) or []) if size != 1]
    if len(wide) > 1 or op.shape(1) != op.shape(2):
        op.refuse("scales along more than one axis")
    axis = (wide[0] if wide else 0) - op.rank(1) + op.rank()
    per_channel = "torch.fake_quantize_per_channel_affine"
    return call(per_channel, op.x, code("{}.flatten()", op[1]), code("{}.flatten()", zeros), axis, *limits)
