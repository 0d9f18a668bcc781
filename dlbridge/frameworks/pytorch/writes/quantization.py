"""Fake quantisation, which PyTorch has a function for."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code, single


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
