"""Gathering and scattering by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import sympy

from dlbridge.frameworks.pytorch.fx.tensors import (
    common_sizes,
    is_float,
    rank,
    sizes,
    sizes_of,
    to_front,
    with_sizes,
)
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.frameworks.pytorch.graph.views import scatter_to_view, select_scatter, slice_scatter
from dlbridge.frameworks.pytorch.reads.logic import common_dtype
from dlbridge.frameworks.pytorch.reads.reduction import neutral
from dlbridge.ops import traits


def _int64(op: Op, x: ir.Value) -> ir.Value:
    return op.cast(x, ir.DataType.INT64)


@reads("aten.index_select")
def index_select(op: Op, x: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    if not rank(index):
        index = op.unsqueeze(index, [0])
    return op("Gather", x, _int64(op, index), axis=dim % rank(x))


@reads("aten.gather")
def gather(op: Op, x: ir.Value, dim: int, index: ir.Value, *, sparse_grad: bool = False) -> ir.Value:
    return _counting_forward(op("GatherElements", x, _int64(op, index), axis=dim % rank(x)))


def _counting_forward(value: ir.Value) -> ir.Value:
    """What an op makes by index, of which PyTorch takes no negative ones."""
    node = value.producer()
    if node is not None:
        traits.set_counts_forward(node)
    return value


@reads("aten.take")
def take(op: Op, x: ir.Value, index: ir.Value) -> ir.Value:
    return op("Gather", op.flat(x), index, axis=0)


# --- x[i, :, j] ----------------------------------------------------------------------------------------------------


def _positions(op: Op, x: ir.Value, indices: list[ir.Value | None]) -> list[ir.Value | None]:
    """Replace masks among the indices by the positions that they mark, one tensor per axis."""
    found: list[ir.Value | None] = []
    for index in indices:
        if index is None or index.dtype not in (ir.DataType.BOOL, ir.DataType.UINT8):
            found.append(None if index is None else _int64(op, index))
            continue
        marked = op("NonZero", op.cast(index, ir.DataType.BOOL))
        count = _marked(op)
        for axis in range(rank(index)):
            found.append(op.sized(op("Gather", marked, axis, axis=0), [count]))
    return found + [None] * (rank(x) - len(found))


def _marked(op: Op) -> Any:
    """How many positions a mask marks: the size that torch gave a symbol to, or a new one where that is not seen."""
    seen = (s for s in op.sizes if not isinstance(s, int) and str(s).startswith("u"))
    return next(seen, None) or sympy.Dummy("marked", integer=True, positive=True)


def _front(indices: list[ir.Value | None]) -> tuple[list[int], bool]:
    """(the indexed axes, whether they are adjacent)."""
    axes = [i for i, index in enumerate(indices) if index is not None]
    return axes, axes == list(range(axes[0], axes[0] + len(axes)))


@reads("aten.index", "aten._unsafe_index")
def index(op: Op, x: ir.Value, indices: list[ir.Value | None]) -> ir.Value:
    """One index is a ``Gather``; several are a ``GatherND`` with the indexed axes moved to the front."""
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == ir.DataType.BOOL:
        return op("GatherND", x, op("Transpose", op("NonZero", indices[0]), perm=[1, 0]))
    positions = _positions(op, x, indices)
    axes, together = _front(positions)
    if len(axes) == 1:
        return op("Gather", x, positions[axes[0]], axis=axes[0])
    rest = [i for i in range(rank(x)) if i not in axes]
    moved = op.transpose(x, axes + rest)
    where, depth = _joined(op, [positions[a] for a in axes])
    picked = op("GatherND", moved, where)
    if not together or axes[0] == 0:
        return picked
    # The axes of the indices replace the first of the indexed axes.
    order = [*range(depth, depth + axes[0]), *range(depth), *range(depth + axes[0], depth + len(rest))]
    return op("Transpose", picked, perm=order)


def _joined(op: Op, positions: list[Any]) -> tuple[ir.Value, int]:
    """(index tensors, broadcast to one shape and stacked along a new last axis, the rank without that axis)."""
    depth = max(rank(p) for p in positions)
    shape = common_sizes([sizes(p) for p in positions])
    return op("Concat", *(op.unsqueeze(op.expand(p, shape), [depth]) for p in positions), axis=-1), depth


@reads("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put")
def index_put(
    op: Op,
    x: ir.Value,
    indices: list[ir.Value | None],
    values: ir.Value,
    accumulate: bool = False,
    unsafe: bool = False,
) -> ir.Value:
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype == ir.DataType.BOOL and rank(values) == 0 and not accumulate:
        wide = op.unsqueeze(mask, list(range(rank(mask), rank(x)))) if rank(mask) < rank(x) else mask
        return op("Where", wide, op.cast(values, x.dtype), x)
    positions = _positions(op, x, indices)
    axes, together = _front(positions)
    rest = [i for i in range(rank(x)) if i not in axes]
    order = axes + rest
    where, depth = _joined(op, [positions[a] for a in axes])
    placed = _updates(op, x, values, where, axes, rest, together, depth)
    made = op("ScatterND", op.transpose(x, order), where, placed, reduction="add" if accumulate else None)
    return op.transpose(made, [int(i) for i in np.argsort(order)])


def _updates(
    op: Op, x: ir.Value, values: ir.Value, where: ir.Value, axes: list[int], rest: list[int], together: bool, depth: int
) -> ir.Value:
    """The new elements in the shape of the indexed positions, the axes of the indices first."""
    values, head = op.cast(values, x.dtype), axes[0]
    behind = len(rest) - head  # axes that are not indexed; what has no more axes than these goes along them alone
    if together and head > 0 and rank(values) > behind:
        missing = depth + len(rest) - rank(values)
        if missing:
            values = op.unsqueeze(values, list(range(missing)))
        values = op.transpose(values, [*range(head, head + depth), *range(head), *range(head + depth, rank(values))])
    tail = [sizes(x)[i] for i in rest]
    lead = op("Shape", where, start=0, end=-1)
    return op("Expand", values, op("Concat", lead, op.ints(tail), axis=0) if tail else lead)


@reads("aten.masked_select")
def masked_select(op: Op, x: ir.Value, mask: ir.Value) -> ir.Value:
    shape = common_sizes([sizes(x), sizes(mask)])
    x, mask = (op.expand(v, shape) for v in (x, mask))
    return op("Compress", op.flat(x), op.flat(mask), axis=0)


@reads("aten.masked_scatter")
def masked_scatter(op: Op, x: ir.Value, mask: ir.Value, source: ir.Value) -> ir.Value:
    """Replace the n-th marked element by the n-th element of the source."""
    x, wide = (op.expand(v, op.sizes) for v in (x, mask))
    flat = op.flat(op.cast(wide, ir.DataType.INT64))
    nth = op("CumSum", flat, 0) - op.ints([1])
    picked = op("Gather", op.flat(source), op("Max", nth, [0]), axis=0)
    return op("Where", wide, op.reshape(picked, op.sizes), x)


@reads("aten._unique2", "aten.unique_dim")
def unique(op: Op, x: ir.Value, *args: Any, **options: Any) -> list[ir.Value]:
    """(unique values, index of each element's value, counts); sorted, as PyTorch's are on a CPU."""
    flat = op.name == "_unique2"
    axis = None if flat else args[0] % rank(x)
    values, _, inverse, counts = op("Unique", x, outputs=4, axis=axis, sorted=1)
    inverse.dtype = counts.dtype = ir.DataType.INT64
    return [values, op.reshape(inverse, sizes_of(op.val[1])), counts]


@reads("aten.nonzero")
def nonzero(op: Op, x: ir.Value) -> ir.Value:
    return op("Transpose", op("NonZero", x), perm=[1, 0])


@reads("aten.nonzero_numpy", "aten.where.default")
def positions(op: Op, x: ir.Value) -> list[ir.Value]:
    """For each axis, where a tensor is not zero: ``torch.where`` of a condition alone."""
    if not rank(x):
        x = op.unsqueeze(x, [0])
    return _positions(op, x, [op.cast(x, ir.DataType.BOOL)])  # type: ignore[return-value]


@reads("aten.repeat_interleave.Tensor")
def repeated_positions(op: Op, repeats: ir.Value, *, output_size: Any = None) -> ir.Value:
    """0, 1, 2, ..., each repeated as often as the tensor says."""
    repeats = op.cast(repeats, ir.DataType.INT64)
    columns = op("Range", 0, op("ReduceMax", repeats, None, keepdims=0), 1)
    rows = with_sizes(op("Unsqueeze", repeats, [1]), [*sizes(repeats), 1])
    return op("Gather", op("NonZero", op("Less", columns, rows)), 0, axis=0)


# --- writing -------------------------------------------------------------------------------------------------------

#: PyTorch's name of a reduction -> that of ONNX; a mean is a sum, divided by the count of its terms.
_REDUCTIONS = {"add": "add", "sum": "add", "mean": "add", "multiply": "mul", "prod": "mul"}
_REDUCTIONS |= {"amax": "max", "amin": "min"}

#: (a tensor, the values that go to places in it, ONNX' reduction of those that meet) -> the tensor with them.
_Placed = Callable[[ir.Value, ir.Value, str | None], ir.Value]


def _combined(
    op: Op, x: ir.Value, values: ir.Value, reduce: str | None, include_self: bool, placed: _Placed
) -> ir.Value:
    """A tensor with values at places in it: in place of its elements, or reduced with them, or with each other."""
    kind = _REDUCTIONS[reduce] if reduce else None
    if not include_self:  # replaced elements start from the neutral number
        x = placed(x, op.filled(neutral(kind, x.dtype), x.dtype, sizes(values)), None)
    made = placed(x, values, kind)
    if reduce != "mean":
        return made
    start, ones = op.filled(int(include_self), x.dtype, sizes(x)), op.filled(1, x.dtype, sizes(values))
    count = op("Max", placed(start, ones, "add"), 1)
    return (made if is_float(made) else made - op("Mod", made, count)) / count  # of integers rounded down


@reads("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(
    op: Op, x: ir.Value, dim: int, index: ir.Value, src: Any, reduce: str | None = None, *, include_self: bool = True
) -> ir.Value:
    if not isinstance(src, ir.Value) or rank(src) == 0:
        src = op("Expand", op.cast(src, x.dtype), sizes(index))
    elif sizes(src) != sizes(index):
        src = op("Slice", src, [0] * rank(src), sizes(index), list(range(rank(src))))
        src = with_sizes(src, sizes(index))
    axis, where = dim % rank(x), _int64(op, index)

    def placed(target: ir.Value, values: ir.Value, kind: str | None) -> ir.Value:
        return _counting_forward(op("ScatterElements", target, where, values, axis=axis, reduction=kind))

    return _combined(op, x, src, "add" if op.name == "scatter_add" else reduce, include_self, placed)


@reads("aten.index_add", "aten.index_copy", "aten.index_reduce")
def index_reduce(
    op: Op,
    x: ir.Value,
    dim: int,
    index: ir.Value,
    source: ir.Value,
    reduce: str | None = None,
    *,
    include_self: bool = True,
    alpha: Any = 1,
) -> ir.Value:
    if alpha != 1:
        source = source * alpha
    order, back = to_front(x, dim)
    rows = op.unsqueeze(_int64(op, index), [1])

    def placed(target: ir.Value, values: ir.Value, kind: str | None) -> ir.Value:
        return op("ScatterND", target, rows, values, reduction=kind)

    front, given = op.transpose(x, order), op.transpose(source, order)
    made = _combined(op, front, given, "add" if op.name == "index_add" else reduce, include_self, placed)
    return op.transpose(made, back)


@reads("aten.slice_scatter")
def scatter_slice(
    op: Op, x: ir.Value, src: ir.Value, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> ir.Value:
    return slice_scatter(op, x, src, dim, start, end, step)


@reads("aten.select_scatter")
def scatter_select(op: Op, x: ir.Value, src: ir.Value, dim: int, index: Any) -> ir.Value:
    return select_scatter(op, x, src, dim, index)


@reads("aten.put")
def put(op: Op, x: ir.Value, index: ir.Value, source: ir.Value, accumulate: bool = False) -> ir.Value:
    rows, values = op("Reshape", op.cast(index, ir.DataType.INT64), [-1, 1]), op.flat(op.cast(source, x.dtype))
    made = op("ScatterND", op.flat(x), rows, values, reduction="add" if accumulate else None)
    return op.reshape(made, sizes(x))


@reads("aten.diagonal_scatter")
def diagonal_scatter(op: Op, x: ir.Value, src: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    return scatter_to_view(op, x, op.cast(src, x.dtype), lambda t: t.diagonal(offset, dim1, dim2), "diagonal")


# --- classes and bins ----------------------------------------------------------------------------------------------


@reads("aten.one_hot")
def one_hot(op: Op, x: ir.Value, num_classes: int = -1) -> ir.Value:
    if num_classes < 0:
        op.refuse("one_hot without a number of classes")
    values = op.constant(np.asarray([0, 1]), ir.DataType.INT64)
    return op("OneHot", x, [num_classes], values, axis=-1)


@reads("aten.bucketize", "aten.searchsorted")
def bucketize(
    op: Op, a: Any, b: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Any = None
) -> ir.Value:
    """How many boundaries are below (or at, when ``right``) each element."""
    right = right or side == "right"  # in whatever order they stand: a sorter changes nothing
    x, edges = (a, b) if op.name == "bucketize" else (b, a)
    if rank(edges) != 1:
        op.refuse("searchsorted in more than one row of boundaries")
    if not isinstance(x, ir.Value):
        x = op.number(x, edges.dtype)
    dtype = common_dtype(op, x, edges)
    below = op("LessOrEqual" if right else "Less", op.cast(edges, dtype), op("Unsqueeze", op.cast(x, dtype), [-1]))
    return op.cast(op("ReduceSum", op.cast(below, ir.DataType.INT64), [-1], keepdims=0))
