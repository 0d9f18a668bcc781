"""Ops whose result sizes depend on the data: nonzero positions, repeats."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.reading import Op, reads
from dlbridge.frameworks.pytorch.tensors import rank, sizes, with_sizes


@reads("aten.where.default")
def positions(op: Op, condition: ir.Value) -> list[ir.Value]:
    """``torch.where`` of a condition alone: for each axis, where the condition is true."""
    if not rank(condition):
        condition = op.unsqueeze(condition, [0])
    marked = op("NonZero", op.cast(condition, ir.DataType.BOOL))
    return [op("Gather", marked, op.number(axis, ir.DataType.INT64), axis=0) for axis in range(rank(condition))]


@reads("aten.repeat_interleave.Tensor")
def repeated_positions(op: Op, repeats: ir.Value, *, output_size: Any = None) -> ir.Value:
    """0, 1, 2, ..., each repeated as often as the tensor says."""
    repeats = op.cast(repeats, ir.DataType.INT64)
    most = op("ReduceMax", repeats, None, keepdims=0)
    columns = op("Range", op.number(0, ir.DataType.INT64), most, op.number(1, ir.DataType.INT64))
    rows = with_sizes(op("Unsqueeze", repeats, [1]), [*sizes(repeats), 1])
    marked = op("NonZero", op("Less", columns, rows))
    return op("Gather", marked, op.number(0, ir.DataType.INT64), axis=0)


@reads("aten.pad_sequence")
def pad_sequence(
    op: Op,
    sequences: list[ir.Value],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> ir.Value:
    """Pad each tensor to the length of the longest, and stack them."""
    longest = op.sizes[1 if batch_first else 0]
    rows = []
    for x in sequences:
        missing, others = longest - sizes(x)[0], [0] * (rank(x) - 1)
        before, after = (0, missing) if padding_side == "right" else (missing, 0)
        padded = op("Pad", x, [before, *others, after, *others], op.cast(padding_value, op.dtype))
        rows.append(op.unsqueeze(with_sizes(padded, [longest, *sizes(x)[1:]]), [0 if batch_first else 1]))
    return op("Concat", *rows, axis=0 if batch_first else 1) if len(rows) > 1 else rows[0]
