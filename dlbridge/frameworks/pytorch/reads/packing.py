"""Packed sequences: the steps of sequences of unequal length, one after the other, without their padding.

A packed tensor remembers the padded one that it is of, which a recurrent layer takes with the lengths. Where something
else has been computed of it in between, its rows are put back to their places.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import Size, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads

#: Key of ``value.meta`` of a packed tensor: the padded one, time first, and the lengths.
PADDED = "pytorch.padded"
#: Key of ``value.meta`` of the batch sizes: the length of the padded tensor, and the lengths.
LENGTHS = "pytorch.lengths"


def _mask(op: Op, time: Size, lengths: ir.Value) -> ir.Value:
    """(time, batch): whether there is a step of a sequence."""
    made = op("Less", op.unsqueeze(op.arange(time), [1]), op.unsqueeze(lengths, [0]))
    return with_sizes(made, [time, sizes(lengths)[0]])


def pack(op: Op, x: ir.Value, lengths: ir.Value) -> ir.Value:
    """The steps of a padded tensor (time, batch, ...) that are not padding."""
    time, _, *rest = sizes(x)
    mask = op("Reshape", _mask(op, time, lengths), [-1])
    rows = op("Reshape", x, [-1, *rest])
    made = op("Compress", rows, mask, axis=0)
    made.meta[PADDED] = x, lengths
    return made


def padded(op: Op, data: ir.Value, batch_sizes: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The padded tensor (time, batch, ...) of a packed one, 0 behind the end of each sequence; and the lengths."""
    if PADDED in data.meta:
        return data.meta[PADDED]
    if LENGTHS not in batch_sizes.meta:
        op.refuse("a packed sequence that was not packed in the model")
    time, lengths = batch_sizes.meta[LENGTHS]
    shape = [time, sizes(lengths)[0], *sizes(data)[1:]]
    places = op("Transpose", op("NonZero", _mask(op, time, lengths)), perm=[1, 0])
    return op("ScatterND", op.filled(0, data.dtype, shape), places, data), lengths


@reads("dlbridge.pack_padded_sequence")
def pack_padded_sequence(op: Op, x: ir.Value, lengths: ir.Value, batch_first: bool) -> list[ir.Value]:
    if batch_first:
        x = op.swap(x, 0, 1)
    data = pack(op, x, lengths)
    steps = op("Range", 0, op("ReduceMax", lengths, None, keepdims=0), 1)
    running = op("Less", op("Unsqueeze", steps, [1]), op.unsqueeze(lengths, [0]))
    batch_sizes = op("ReduceSum", op.cast(running, ir.DataType.INT64), [1], keepdims=0)
    batch_sizes.meta[LENGTHS] = sizes(x)[0], lengths
    return [data, batch_sizes]


@reads("dlbridge.pad_packed_sequence")
def pad_packed_sequence(
    op: Op,
    data: ir.Value,
    batch_sizes: ir.Value,
    batch: Size,
    batch_first: bool,
    padding_value: float,
    total_length: Any,
) -> list[ir.Value]:
    x, lengths = padded(op, data, batch_sizes)
    time, *others = sizes(x)
    if padding_value or PADDED in data.meta:  # the tensor that was packed is not 0 after the ends
        mask = _mask(op, time, lengths)
        wide = op.unsqueeze(mask, list(range(2, len(others) + 1))) if len(others) > 1 else mask
        x = op("Where", wide, x, padding_value)
    if isinstance(total_length, int) and isinstance(time, int) and total_length > time:
        behind = [*[0] * len(sizes(x)), total_length - time, *[0] * len(others)]
        x = op("Pad", x, behind, op.cast(padding_value, x.dtype))
    elif total_length != time:
        x = op.slice(x, 0, 0, total_length)
    x = with_sizes(x, [total_length, *others])
    return [op.swap(x, 0, 1) if batch_first else x, lengths]
