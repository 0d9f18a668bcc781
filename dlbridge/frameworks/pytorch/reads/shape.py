"""Ops that reshape, permute, split and concatenate tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import numel, rank, size_of, sizes, sizes_of, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads

#: An end of a slice at or beyond this means 'to the end'.
_FAR = 2**62


# --- the same elements in another shape ----------------------------------------------------------------------------


@reads("aten.view", "aten.view_as", "aten.reshape", "aten.reshape_as", "aten._unsafe_view", "aten._reshape_alias")
@reads("aten.flatten", "aten.unflatten", "aten.ravel")
def reshape(op: Op, x: ir.Value, *args: Any) -> ir.Value:
    """Reshape to the sizes of the result."""
    return op.reshape(x, op.sizes)


@reads("aten.view.dtype")
def bit_cast(op: Op, x: ir.Value, dtype: Any) -> ir.Value:
    if op.dtype.bitwidth != x.dtype.bitwidth:  # type: ignore[union-attr]
        op.refuse("view of another dtype's size")
    return op("BitCast", x, to=int(op.dtype))


@reads("aten.unsqueeze")
def unsqueeze(op: Op, x: ir.Value, dim: int) -> ir.Value:
    return op.unsqueeze(x, [dim])


@reads("aten.squeeze")
def squeeze(op: Op, x: ir.Value, dim: Any = None) -> ir.Value:
    if dim is None:
        axes = range(rank(x))
    elif isinstance(dim, list):
        axes = dim
    else:
        axes = [dim]
    ones = [a for a in axes if rank(x) and sizes(x)[a] == 1]
    return op.squeeze(x, ones) if ones else x


@reads("aten.transpose", "aten.swapaxes", "aten.swapdims")
def transpose(op: Op, x: ir.Value, first: int, second: int) -> ir.Value:
    return op.swap(x, first, second) if rank(x) else x


@reads("aten.t", "aten.numpy_T", "aten.mT", "aten.adjoint")
def turn(op: Op, x: ir.Value) -> ir.Value:
    return x if rank(x) < 2 else op.swap(x, -2, -1)


@reads("aten.permute")
def permute(op: Op, x: ir.Value, dims: list[int]) -> ir.Value:
    return op.transpose(x, [d % rank(x) for d in dims])


@reads("aten.expand", "aten.expand_as", "aten.broadcast_to")
def expand(op: Op, x: ir.Value, *args: Any, implicit: bool = False) -> ir.Value:
    """Expand to the sizes of the result; an unchanged size is passed to ONNX as 1."""
    target = op.sizes
    given = [1] * (len(target) - rank(x)) + sizes(x)
    if sizes(x) == target:
        return x
    return op("Expand", x, [1 if have == want else want for have, want in zip(given, target, strict=True)])


@reads("aten.repeat", "aten.tile")
def repeat(op: Op, x: ir.Value, repeats: list[Any]) -> ir.Value:
    missing = len(repeats) - rank(x)
    repeats = [*[1] * -missing, *repeats]
    if missing > 0:
        x = op.unsqueeze(x, list(range(missing)))
    return x if all(r == 1 for r in repeats) else op("Tile", x, repeats)


# --- joining and cutting -------------------------------------------------------------------------------------------


@reads("aten.cat", "aten.concat", "aten.concatenate")
def cat(op: Op, tensors: list[ir.Value], dim: int = 0) -> ir.Value:
    """Concatenate; PyTorch ignores empty tensors of rank 1."""
    kept = [op.cast(t) for t in tensors if sizes(t) != [0] or rank(tensors[-1]) == 1]
    return kept[0] if len(kept) == 1 else op("Concat", *kept, axis=dim % len(op.sizes))


@reads("aten.stack")
def stack(op: Op, tensors: list[ir.Value], dim: int = 0) -> ir.Value:
    axis = dim % len(op.sizes)
    slices = {t: op.unsqueeze(op.cast(t), [axis]) for t in dict.fromkeys(tensors)}
    return op("Concat", *(slices[t] for t in tensors), axis=axis)


@reads("aten.split", "aten.split_with_sizes", "aten.tensor_split", "aten.unsafe_split")
@reads("aten.chunk", "aten.unsafe_chunk")
def split(op: Op, x: ir.Value, parts: Any, dim: int = 0) -> list[ir.Value]:
    """Split into the parts of PyTorch's result; one part is the tensor itself."""
    axis = dim % rank(x)
    lengths = [size_of(v.shape[axis]) for v in op.val]
    if len(lengths) == 1:
        return [x]
    pieces = op("Split", x, lengths, outputs=len(lengths), axis=axis)
    return [with_sizes(p, sizes_of(v)) for p, v in zip(pieces, op.val, strict=True)]


@reads("aten.unbind")
def unbind(op: Op, x: ir.Value, dim: int = 0) -> list[ir.Value]:
    return [op("Gather", x, i, axis=dim % rank(x)) for i in range(len(op.val))]


@reads("aten.slice")
def slice_(op: Op, x: ir.Value, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> ir.Value:
    axis = dim % rank(x)
    size = sizes(x)[axis]
    start = 0 if start is None else start
    if op.sizes == sizes(x) and start == 0 and step == 1:
        return x
    if end is None or end == size or (isinstance(end, int) and end >= _FAR):
        end = size if isinstance(size, int) else 2**63 - 1
    return op.slice(x, axis, start, end, step)


@reads("aten.narrow")
def narrow(op: Op, x: ir.Value, dim: int, start: Any, length: Any) -> ir.Value:
    if isinstance(start, ir.Value):
        first = op("Reshape", op.cast(start, ir.DataType.INT64), [1])
        return op("Slice", x, first, first + op.ints([length]), [dim])
    return op.slice(x, dim % rank(x), start, start + length)


@reads("aten.select")
def select(op: Op, x: ir.Value, dim: int, index: Any) -> ir.Value:
    return op("Gather", x, index, axis=dim % rank(x))


@reads("aten.flip")
def flip(op: Op, x: ir.Value, dims: list[int]) -> ir.Value:
    if not dims:
        return x
    ends = [-(2**63) + 1] * len(dims)
    return op("Slice", x, [-1] * len(dims), ends, list(dims), [-1] * len(dims))


@reads("aten.roll")
def roll(op: Op, x: ir.Value, shifts: Any, dims: Any = ()) -> ir.Value:
    shifts, dims = (list(v) if isinstance(v, (list, tuple)) else [v] for v in (shifts, dims))
    if not dims:
        return op.reshape(_rolled(op, op.reshape(x, [numel(sizes(x))]), shifts[0], 0), sizes(x))
    result = x
    for shift, dim in zip(shifts, dims, strict=True):
        result = _rolled(op, result, shift, dim % rank(x))
    return result


def _rolled(op: Op, x: ir.Value, shift: Any, axis: int) -> ir.Value:
    size = sizes(x)[axis]
    if isinstance(shift, int) and isinstance(size, int):
        shift %= size
    if shift == 0:
        return x
    cut = -shift
    tail, head = op.slice(x, axis, cut, 2**63 - 1), op.slice(x, axis, 0, cut)
    return with_sizes(op("Concat", tail, head, axis=axis), sizes(x))


# --- pixels --------------------------------------------------------------------------------------------------------


@reads("aten.pixel_shuffle", "aten.pixel_unshuffle")
def pixel_shuffle(op: Op, x: ir.Value, factor: int) -> ir.Value:
    if rank(x) != 4:
        op.refuse(f"{op.name} of other than (batch, channels, height, width)")
    if op.name == "pixel_shuffle":
        return op("DepthToSpace", x, blocksize=factor, mode="CRD")
    return op("SpaceToDepth", x, blocksize=factor, mode="CRD")


# --- padding -------------------------------------------------------------------------------------------------------


def _pads(x: ir.Value, pad: list[Any]) -> list[Any]:
    """Convert PyTorch's pads (last axis first) to ONNX' order: all starts, then all ends."""
    missing = rank(x) - len(pad) // 2
    starts = [0] * missing + list(pad[0::2])[::-1]
    ends = [0] * missing + list(pad[1::2])[::-1]
    return starts + ends


@reads("aten.constant_pad_nd")
def constant_pad(op: Op, x: ir.Value, pad: list[Any], value: Any = 0) -> ir.Value:
    if all(p == 0 for p in pad):
        return x
    return op("Pad", x, _pads(x, pad), value or None)


@reads("aten.pad")
def pad(op: Op, x: ir.Value, pad: list[Any], mode: str = "constant", value: Any = None) -> ir.Value:
    if mode == "constant":
        return constant_pad(op, x, pad, value or 0)
    if mode == "circular":  # negative pads crop before the rest is padded
        for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
            axis = rank(x) - 1 - i
            if before < 0 or after < 0:
                x = op.slice(x, axis, max(-before, 0), sizes(x)[axis] - max(-after, 0))
        pad = [max(p, 0) for p in pad]
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return op("Pad", x, _pads(x, pad), mode=modes[mode])


@reads(*(f"aten.{kind}_pad{count}d" for kind in ("reflection", "replication") for count in "123"))
def pad_with_its_own(op: Op, x: ir.Value, padding: list[Any]) -> ir.Value:
    return pad(op, x, padding, "reflect" if op.name.startswith("reflection") else "replicate")


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
        padded = op("Pad", x, [before, *others, after, *others], op.cast(padding_value))
        rows.append(op.unsqueeze(with_sizes(padded, [longest, *sizes(x)[1:]]), [0 if batch_first else 1]))
    return op("Concat", *rows, axis=0 if batch_first else 1) if len(rows) > 1 else rows[0]


# --- triangles and diagonals ---------------------------------------------------------------------------------------


@reads("aten.tril", "aten.triu")
def triangle(op: Op, x: ir.Value, diagonal: Any = 0) -> ir.Value:
    numbers = op.cast(x, ir.DataType.INT32) if x.dtype == ir.DataType.BOOL else x
    return op.cast(op("Trilu", numbers, diagonal or None, upper=int(op.name == "triu")), x.dtype)


@reads("aten.diagonal")
def diagonal(op: Op, x: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    first, second = dim1 % rank(x), dim2 % rank(x)
    rows, columns = sizes(x)[first], sizes(x)[second]
    if not (isinstance(rows, int) and isinstance(columns, int)):
        op.refuse("the diagonal of a matrix whose sizes are not fixed")
    order = [i for i in range(rank(x)) if i not in (first, second)]
    moved = op.transpose(x, [*order, first, second])
    start = offset if offset >= 0 else -offset * columns
    length = op.sizes[-1]
    flat = op.reshape(moved, [*(sizes(x)[i] for i in order), rows * columns])
    return op("Gather", flat, op.constant(start + np.arange(length) * (columns + 1)), axis=len(order))
