"""The registry of PyTorch's writing rules, and what the rules share."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.source.code import Raw
from dlbridge.source.op import Op, Rules

#: ``@rules("Relu")`` over a function ``Op -> Code | Emit`` makes it the rule of an op.
rules = Rules("pytorch")

TORCH_DTYPES: dict[ir.DataType, str] = {
    ir.DataType.FLOAT: "torch.float32",
    ir.DataType.DOUBLE: "torch.float64",
    ir.DataType.FLOAT16: "torch.float16",
    ir.DataType.BFLOAT16: "torch.bfloat16",
    ir.DataType.INT8: "torch.int8",
    ir.DataType.INT16: "torch.int16",
    ir.DataType.INT32: "torch.int32",
    ir.DataType.INT64: "torch.int64",
    ir.DataType.UINT8: "torch.uint8",
    ir.DataType.UINT16: "torch.uint16",
    ir.DataType.UINT32: "torch.uint32",
    ir.DataType.UINT64: "torch.uint64",
    ir.DataType.BOOL: "torch.bool",
    ir.DataType.COMPLEX64: "torch.complex64",
    ir.DataType.COMPLEX128: "torch.complex128",
    ir.DataType.FLOAT8E4M3FN: "torch.float8_e4m3fn",
    ir.DataType.FLOAT8E4M3FNUZ: "torch.float8_e4m3fnuz",
    ir.DataType.FLOAT8E5M2: "torch.float8_e5m2",
    ir.DataType.FLOAT8E5M2FNUZ: "torch.float8_e5m2fnuz",
}


def torch_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as PyTorch calls it; refused by name when PyTorch has none."""
    if dtype not in TORCH_DTYPES:
        op.refuse(f"PyTorch has no dtype {dtype.name}")
    return Raw(TORCH_DTYPES[dtype])
