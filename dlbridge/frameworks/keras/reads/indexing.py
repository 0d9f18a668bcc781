"""``keras.ops`` that gather and scatter elements."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.building import IR_DTYPES
from dlbridge.frameworks.keras.graph.call_site import END, CallSite, operation, slice_ends
from dlbridge.frameworks.keras.reads.shape import sizes_of
from dlbridge.passes.sizes import Size


@operation("GetItem")
def get_item(site: CallSite, x: Any, key: Any) -> ir.Value:
    """``x[key]`` with a key of ints, slices, None and ``...``; ints may be values of the graph."""
    x = site.tensor(x)
    keys = _with_all_axes(key, site.rank(x))
    of_axes = list(enumerate(one for one in keys if one is not None))
    slices = [_bounds(one, axis) for axis, one in of_axes if isinstance(one, slice) and one != slice(None)]
    places = [(axis, site.number(one, ir.DataType.INT64)) for axis, one in of_axes if _is_place(one)]
    tensors = [(axis, site.tensor(one)) for axis, one in of_axes if not isinstance(one, slice) and not _is_place(one)]
    if len(tensors) > 1 or (tensors and places):
        site.refuse("an index of several tensors")
    x = _sliced(site, x, slices)
    for axis, indices in tensors:
        x = site.op("Gather", x, indices, axis=axis)
    for axis, place in reversed(places):
        x = site.op("Gather", x, place, axis=axis)
    added = [axis for axis, one in enumerate(k for k in keys if not _is_place(k)) if one is None]
    return site.unsqueeze(x, *added) if added else x


def _with_all_axes(key: Any, rank: int) -> list[Any]:
    """A key as a list, in which ``...``, or what is left out behind the last entry, is a slice for each axis."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    if not any(one is Ellipsis for one in keys):
        keys.append(Ellipsis)
    used = sum(one is not None and one is not Ellipsis for one in keys)
    place = next(i for i, one in enumerate(keys) if one is Ellipsis)
    return [*keys[:place], *[slice(None)] * (rank - used), *keys[place + 1 :]]


def _is_place(one: Any) -> bool:
    return isinstance(one, (int, np.integer))


def _bounds(one: slice, axis: int) -> tuple[Any, Any, int, int]:
    """(start, end, axis, step) of a slice, as the standard has them."""
    step = 1 if one.step is None else one.step
    return *slice_ends(one.start, one.stop, step), axis, step


def _sliced(site: CallSite, x: ir.Value, slices: list[Any]) -> ir.Value:
    if not slices:
        return x
    return site.op("Slice", x, *(sizes_of(site, column) for column in zip(*slices, strict=True)))


@operation("Take")
def take(site: CallSite, x: Any, indices: Any) -> ir.Value:
    x, axis = site.along(site.tensor(x), site.source.axis)
    if isinstance(indices, int):
        where = site.number(indices, ir.DataType.INT64)
    else:
        where = site.tensor(np.asarray(indices, np.int64) if isinstance(indices, (list, tuple)) else indices)
    if where.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        where = site.cast(where, "int32")
    return site.op("Gather", x, where, axis=axis)


@operation("TakeAlongAxis")
def take_along_axis(site: CallSite, x: Any, indices: Any) -> ir.Value:
    x, axis = site.tensor(x), site.source.axis
    where = site.cast(site.tensor(indices), ir.DataType.INT64)
    if axis is None:
        x, where, axis = site.op("Reshape", x, [-1]), site.op("Reshape", where, [-1]), 0
    rank = site.rank(x)
    axis = site.axis(axis, rank)
    if site.shape(x)[:axis] + site.shape(x)[axis + 1 :] != site.shape(where)[:axis] + site.shape(where)[axis + 1 :]:
        x, where = _broadcast_but(site, x, where, axis)
    return site.op("GatherElements", x, where, axis=axis)


def _broadcast_but(site: CallSite, x: ir.Value, y: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
    """Broadcast two tensors to each other along all axes but one."""
    ones = np.ones(site.rank(x), np.int64)
    ones[axis] = 0
    keep = site.build.constant(ones.astype(bool))
    shapes = [site.op("Where", keep, site.op("Shape", v), 1) for v in (x, y)]
    return site.op("Expand", x, shapes[1]), site.op("Expand", y, shapes[0])


@operation("OneHot")
def one_hot(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    return one_hot_of(site, site.tensor(x), kind.num_classes, kind.axis, site.dtype)


def one_hot_of(site: CallSite, x: ir.Value, count: int, axis: int, dtype: ir.DataType) -> ir.Value:
    """One-hot along ``axis``; all zeros for numbers that are not a class, negative ones too."""
    x = site.cast(x, ir.DataType.INT64)
    wide = site.unsqueeze(x, axis)
    rank = site.rank(wide)
    shape = [1] * rank
    shape[axis % rank] = -1
    if site.build.sizes.recover(count) is None:
        classes = np.arange(count, dtype=np.int64).reshape(shape)
    else:
        classes = site.reshape(site.op("Range", 0, site.number(count, ir.DataType.INT64), 1), shape)
    return site.cast(site.op("Equal", wide, classes), dtype)


@operation("MultiHot")
def multi_hot(site: CallSite, inputs: Any) -> ir.Value:
    kind, x = site.source, site.tensor(inputs)
    axis = 1 if site.rank(x) > 1 else 0
    dtype = IR_DTYPES[kind.dtype or keras.config.floatx()]
    hot = one_hot_of(site, x, int(kind.num_classes), kind.axis, dtype)
    return site.op("ReduceMax", hot, [axis], keepdims=0)


@operation("Scatter")
def scatter(site: CallSite, indices: Any, values: Any) -> ir.Value:
    (updates,) = site.promoted(values)
    base = site.op("Expand", site.build.value(0, updates.dtype), sizes_of(site, site.source.shape))
    return site.op("ScatterND", base, site.cast(site.tensor(indices), ir.DataType.INT64), updates, reduction="add")


@operation("ScatterUpdate")
def scatter_update(site: CallSite, inputs: Any, indices: Any, updates: Any) -> ir.Value:
    how = {None: None, "add": "add", "max": "max", "min": "min", "mul": "mul"}.get(site.source.reduction, "?")
    if how == "?":
        site.refuse(f"scatter with the reduction '{site.source.reduction}'")
    x, new = site.promoted(inputs, updates)
    return site.op("ScatterND", x, site.cast(site.tensor(indices), ir.DataType.INT64), new, reduction=how)


@operation("Slice")
def slice_(site: CallSite, inputs: Any, start_indices: Any) -> ir.Value:
    x, shape = site.tensor(inputs), site.source.shape
    starts = _starts(site, start_indices)
    whole = sizes_of(site, shape)
    if isinstance(starts, list) and isinstance(whole, list):
        ends: Any = [END if n == -1 else s + n for s, n in zip(starts, whole, strict=True)]
        sizes = _axes_of(site, x)
        slices = [
            (start, end, axis)
            for axis, (start, end) in enumerate(zip(starts, ends, strict=True))
            if start != 0 or (end != END and _size_of(site, end) != sizes[axis])
        ]
        made = _sliced(site, x, slices)
    else:
        if isinstance(whole, list) and -1 in whole:
            site.refuse("a slice from a computed place to the end")
        ends = site.build.value(starts) + site.build.value(whole)
        made = site.op("Slice", x, starts, ends, list(range(site.rank(x))))
    if isinstance(whole, list) and made.shape is not None:  # Keras takes so many elements or raises, ONNX fewer
        known = [site.build.sizes.recover(size) for size in whole]
        made.shape = ir.Shape([d if s is None else s.dim() for d, s in zip(made.shape, known, strict=True)])
    return made


def _starts(site: CallSite, indices: Any) -> Any:
    if isinstance(indices, ir.Value):
        return site.cast(indices, ir.DataType.INT64)
    return sizes_of(site, indices if isinstance(indices, (list, tuple)) else np.asarray(indices).tolist())


@operation("SliceUpdate")
def slice_update(site: CallSite, inputs: Any, start_indices: Any, updates: Any) -> ir.Value:
    """Write ``updates`` at a start index: along one axis by joining what is before and after, else by scattering to a
    grid of indices."""
    x, new = site.promoted(inputs, updates)
    starts, sizes = _starts(site, start_indices), site.shape(new)
    if all(isinstance(s, int) for s in sizes):
        grid = np.stack(np.meshgrid(*(np.arange(s) for s in sizes), indexing="ij"), -1).astype(np.int64)
        return site.op("ScatterND", x, site.build.value(starts) + grid, new)
    whole, written = _axes_of(site, x), _axes_of(site, new)
    if not isinstance(starts, list):
        site.refuse("an update whose size is not known, at a computed place")
    begins = [_size_of(site, start) for start in starts]
    along = [axis for axis, at in enumerate(begins) if at != Size.of(0) or written[axis] != whole[axis]]
    if not along:
        return new
    axis, *others = along
    after = whole[axis] - begins[axis] - written[axis]
    if others or any(count < 0 for count in after.terms.values()):
        site.refuse("an update whose size is not known, of which it is not known that it fits")
    begin, end = begins[axis], begins[axis] + written[axis]
    parts = [new]
    if begin != Size.of(0):
        parts.insert(0, site.op("Slice", x, [0], [site.build.sizes.symbolic(begin)], [axis]))
    if after != Size.of(0):
        parts.append(site.op("Slice", x, [site.build.sizes.symbolic(end)], [END], [axis]))
    return parts[0] if len(parts) == 1 else site.op("Concat", *parts, axis=axis)


def _axes_of(site: CallSite, value: ir.Value) -> list[Size]:
    """The sizes of all axes of a value."""
    return [_size_of(site, site.build.sizes.of_axis(value, axis)) for axis in range(site.rank(value))]


def _size_of(site: CallSite, number: int) -> Size:
    """A number, or the size that it stands for."""
    return site.build.sizes.recover(number) or Size.of(int(number))


@operation("Tril", "Triu")
def triangle(site: CallSite, x: Any) -> ir.Value:
    x, k = site.tensor(x), site.source.k
    numbers = site.cast(x, "int32") if x.dtype == ir.DataType.BOOL else x
    return site.op("Trilu", numbers, k, upper=int(site.operation == "Triu"))


@operation("Diagonal", "Trace")
def diagonal(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    rank = site.rank(x)
    a, b = site.axis(kind.axis1, rank), site.axis(kind.axis2, rank)
    y = _diagonal(site, site.transpose(x, [*(i for i in range(rank) if i not in (a, b)), a, b]), kind.offset)
    if site.operation == "Diagonal":
        return y
    return site.op("ReduceSum", site.cast(y, site.dtype), [-1], keepdims=0)  # a sum of int8 is int32 in Keras


def _diagonal(site: CallSite, x: ir.Value, offset: int) -> ir.Value:
    """The diagonals of matrices, which are the last two axes."""
    *rest, rows, columns = site.shape(x)
    site.require([rows, columns], "the diagonal of a matrix whose size is not known")
    row = np.arange(max(0, -offset), min(rows, columns - offset))
    flat = site.op("Reshape", x, [*([0] * len(rest)), rows * columns])
    return site.op("Gather", flat, (row * columns + row + offset).astype(np.int64), axis=-1)


@operation("Diag", "Diagflat")
def diag(site: CallSite, x: Any) -> ir.Value:
    x, k = site.tensor(x), site.source.k
    if site.rank(x) != 1 and site.operation == "Diag":
        return _diagonal(site, x, k)
    if site.rank(x) != 1:
        x = site.op("Reshape", x, [-1])
    (count,) = site.shape(x)
    site.require([count], "a diagonal whose size is not known")
    places = np.stack([np.arange(count) + max(0, -k), np.arange(count) + max(0, k)], -1).astype(np.int64)
    base = site.build.constant(np.zeros((count + abs(k), count + abs(k)), x.dtype.numpy()))
    return site.op("ScatterND", base, places, x)


@operation("Digitize", "SearchSorted")
def digitize(site: CallSite, first: Any, second: Any) -> ir.Value:
    """The count of edges that are at most (or below) each number."""
    name = site.operation
    x, edges = (first, second) if name == "Digitize" else (second, first)
    x, edges = site.common(site.tensor(x), site.tensor(edges))
    if site.rank(edges) != 1:
        site.refuse("edges of more than one axis")
    left = name == "SearchSorted" and site.source.side == "left"
    below = site.op("Greater" if left else "GreaterOrEqual", site.unsqueeze(x, -1), edges)
    return site.op("ReduceSum", site.cast(below, "int32"), [-1], keepdims=0)


@operation("IsIn")
def isin(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = site.common(site.tensor(x1), site.tensor(x2))
    equal = site.op("Equal", site.unsqueeze(a, -1), site.op("Reshape", b, [-1]))
    found = site.cast(site.op("ReduceMax", site.cast(equal, "int32"), [-1], keepdims=0), ir.DataType.BOOL)
    return site.op("Not", found) if site.source.invert else found
