"""``keras.ops`` that reshape, permute and concatenate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.errors import warn_of_squeeze
from dlbridge.frameworks.keras.graph.call_site import END, FRONT, CallSite, operation
from dlbridge.frameworks.keras.reads.reshaping import pad as pad_axes
from dlbridge.passes.sizes import Size


def sizes_of(site: CallSite, sizes: Any) -> Any:
    """A shape from Keras code (ints and values), as a list of ints or an int64 vector."""
    sizes = [sizes] if isinstance(sizes, (int, ir.Value)) else list(sizes)
    if all(s is None or isinstance(s, (int, np.integer)) for s in sizes):
        return [-1 if s is None else s for s in sizes]
    parts = [
        site.op("Reshape", site.cast(s, ir.DataType.INT64), [1]) if isinstance(s, ir.Value) else site.build.value([s])
        for s in sizes
    ]
    return site.op("Concat", *parts, axis=0)


@operation("Reshape")
def reshape(site: CallSite, x: Any) -> ir.Value:
    return reshaped(site, site.tensor(x), site.source.newshape)


def reshaped(site: CallSite, x: ir.Value, shape: Any) -> ir.Value:
    sizes = sizes_of(site, shape)
    if not isinstance(sizes, list):
        return site.op("Reshape", x, sizes)
    if sizes.count(-1) > 1:
        site.refuse("a reshape to several sizes that are not known")
    # a size that is not known is that of the input's axis at the same place, or else the one that is left over
    before = [Size.of(s) for s in site.shape(x)]
    for place, size in enumerate(sizes):
        unknown = site.build.sizes.recover(size)
        if unknown is not None and place < len(before) and before[place] == unknown:
            sizes[place] = 0
    open_sizes = [i for i, s in enumerate(sizes) if site.build.sizes.recover(s) is not None]
    if open_sizes and -1 not in sizes:
        sizes[open_sizes[0]] = -1
    return site.op("Reshape", x, sizes)


@operation("Rearrange")
def rearrange(site: CallSite, tensor: Any, pattern: str, **lengths: Any) -> ir.Value:
    """``b (h p) c -> b p (h c)``: split the axes in brackets, permute, and merge."""
    x = site.tensor(tensor)
    before, after = (_names_by_axis(side) for side in pattern.split("->"))
    sizes: dict[str, Any] = {name: int(size) for name, size in lengths.items()}
    for axis, names in enumerate(before):
        open_name = next((n for n in names if n not in sizes), None)
        if open_name is not None:  # its size is what the others leave of the axis
            others = math.prod(sizes[n] for n in names if n in sizes)
            whole = site.build.sizes.of_axis(x, axis)
            sizes[open_name] = whole if others == 1 else whole // others
    order = [name for names in before for name in names]
    if len(order) > len(before):
        x = reshaped(site, x, [sizes[n] for n in order])
    x = site.transpose(x, [order.index(n) for names in after for n in names])
    if len(order) == len(after):
        return x
    return reshaped(site, x, [math.prod(sizes[n] for n in names) for names in after])


def _names_by_axis(side: str) -> list[list[str]]:
    """The names of each axis in a side of a pattern: ``b (h p)`` is ``[["b"], ["h", "p"]]``."""
    return [re.findall(r"\w+", axis) for axis in re.findall(r"\w+|\(.*?\)", side)]


@operation("Ravel")
def ravel(site: CallSite, x: Any) -> ir.Value:
    return site.op("Reshape", site.tensor(x), [-1])


#: Operation -> what NumPy calls it, of an array and the operation's settings.
_ORDERS: dict[str, Callable[[np.ndarray, Any], np.ndarray]] = {
    "Transpose": lambda array, kind: np.transpose(array, kind.axes),
    "Swapaxes": lambda array, kind: np.swapaxes(array, kind.axis1, kind.axis2),
    "Moveaxis": lambda array, kind: np.moveaxis(array, kind.source, kind.destination),
}


@operation(*_ORDERS, operands=CallSite.tensors)
def permute(site: CallSite, x: ir.Value) -> ir.Value:
    """The order of the axes is that in which NumPy has those of an array whose sizes are the numbers of its axes."""
    numbered = np.empty(range(site.rank(x)))
    return site.op("Transpose", x, perm=list(_ORDERS[site.operation](numbered, site.source).shape))


@operation("ExpandDims")
def expand_dims(site: CallSite, x: Any) -> ir.Value:
    axis = site.source.axis
    return site.unsqueeze(site.tensor(x), *([axis] if isinstance(axis, int) else axis))


@operation("Squeeze")
def squeeze(site: CallSite, x: Any) -> ir.Value:
    x, axis = site.tensor(x), site.source.axis
    if axis is None:
        axes = [i for i, s in enumerate(site.shape(x)) if s == 1]
        _tell_of_free_axes(site, x)
    else:
        axes = site.axes(x, axis)
    return site.squeeze(x, *axes) if axes else x


def _tell_of_free_axes(site: CallSite, x: ir.Value) -> None:
    """Warn of each axis that ``squeeze`` takes away for some inputs alone, those in which its size is 1."""
    for size in site.shape(x):
        if not isinstance(size, int) and site.build.sizes.questions.require_more_than_one(str(size.value)):
            warn_of_squeeze(site.build.path or "the model", str(size.value))


@operation("BroadcastTo", operands=CallSite.tensors)
def broadcast_to(site: CallSite, x: ir.Value) -> ir.Value:
    sizes = sizes_of(site, site.source.shape)
    if isinstance(sizes, list):  # None: as in x
        sizes = [1 if s == -1 else s for s in sizes]
    return site.op("Expand", x, sizes)


@operation("Concatenate")
def concatenate(site: CallSite, xs: Any) -> ir.Value:
    axis = site.source.axis
    values = site.promoted(*xs)
    if axis is None:
        values, axis = [site.op("Reshape", v, [-1]) for v in values], 0
    return site.op("Concat", *values, axis=axis)


@operation("Stack")
def stack(site: CallSite, x: Any) -> ir.Value:
    axis = site.source.axis
    return site.op("Concat", *(site.unsqueeze(v, axis) for v in site.promoted(*x)), axis=axis)


#: (axes that a tensor has, axes that it is to have before it is stacked) -> the new ones.
_NEW_AXES = {(1, 2): (0,), (1, 3): (0, 2), (2, 3): (2,)}


@operation("Hstack", "Vstack", "Dstack")
def stacks(site: CallSite, xs: Any) -> ir.Value:
    name, values = site.operation, site.promoted(*xs)
    flat = any(site.rank(value) < 2 for value in values)
    if name == "Vstack" and flat and keras.backend.backend() == "tensorflow":
        site.refuse("vstack of rows, which Keras on TensorFlow puts one behind the other")
    wanted = {"Hstack": 1, "Vstack": 2, "Dstack": 3}[name]
    ready = []
    for value in values:
        rank = max(site.rank(value), 1)
        if not site.rank(value):
            value = site.unsqueeze(value, 0)
        if rank < wanted:
            value = site.unsqueeze(value, *_NEW_AXES[rank, wanted])
        ready.append(value)
    axis = {"Hstack": 0 if site.rank(ready[0]) == 1 else 1, "Vstack": 0, "Dstack": 2}[name]
    return site.op("Concat", *ready, axis=axis)


@operation("Append", operands=CallSite.promoted)
def append(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    (a, axis), (b, _) = (site.along(v, site.source.axis) for v in (a, b))
    return site.op("Concat", a, b, axis=axis)


@operation("Split", "ArraySplit", "Hsplit", "Vsplit", "Dsplit")
def split(site: CallSite, x: Any) -> Any:
    kind, x = site.source, site.tensor(x)
    rank = site.rank(x)
    axis = {"Hsplit": 1 if rank > 1 else 0, "Vsplit": 0, "Dsplit": 2}.get(site.operation, getattr(kind, "axis", 0))
    axis = site.axis(axis, rank)
    where, size = kind.indices_or_sections, site.shape(x)[axis]
    if isinstance(where, int):
        if site.operation != "ArraySplit" or (isinstance(size, int) and size % where == 0):
            if where == 1:
                return [site.op("Identity", x)]
            return site.op("Split", x, axis=axis, num_outputs=where, outputs=where)
        site.require([size], "an uneven split of a size that is not known")
        sizes = [size // where + (i < size % where) for i in range(where)]
        return site.op("Split", x, sizes, axis=axis, outputs=where)
    edges = [0, *(int(i) for i in where)]
    return [site.slice(x, axis, a, b) for a, b in zip(edges, [*edges[1:], None], strict=True)]


@operation("Unstack")
def unstack(site: CallSite, x: Any) -> Any:
    x, axis = site.tensor(x), site.source.axis
    count = len(site.outputs)
    if count == 1:
        return [site.squeeze(x, axis)]
    return [site.squeeze(v, axis) for v in site.op("Split", x, axis=axis, num_outputs=count, outputs=count)]


@operation("Tile")
def tile(site: CallSite, x: Any) -> ir.Value:
    x, repeats = site.tensor(x), site.source.repeats
    repeats = sizes_of(site, repeats)
    if not isinstance(repeats, list):
        return site.op("Tile", x, repeats)
    rank = site.rank(x)
    repeats = [1] * (rank - len(repeats)) + repeats
    if len(repeats) > rank:
        x = site.unsqueeze(x, *range(len(repeats) - rank))
    return site.op("Tile", x, repeats)


@operation("Repeat")
def repeat(site: CallSite, x: Any) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    repeats = kind.repeats
    x, axis = site.along(x, kind.axis)
    shape = site.shape(x)
    if not isinstance(repeats, int):
        counts = np.asarray(repeats).reshape(-1)
        if len(counts) != 1:
            indices = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
            return site.op("Gather", x, indices, axis=axis)
        repeats = int(counts[0])
    wide = site.unsqueeze(x, axis + 1)
    tiled = site.op("Tile", wide, [repeats if i == axis + 1 else 1 for i in range(len(shape) + 1)])
    sizes = [site.build.sizes.of_axis(x, i) for i in range(len(shape))]
    return reshaped(site, tiled, [*sizes[:axis], sizes[axis] * repeats, *sizes[axis + 1 :]])


@operation("Flip", "Fliplr", "Flipud", operands=CallSite.tensors)
def flip(site: CallSite, x: ir.Value) -> ir.Value:
    axis = {"Fliplr": 1, "Flipud": 0}.get(site.operation, getattr(site.source, "axis", None))
    return _flipped(site, x, *site.axes(x, axis))


def _flipped(site: CallSite, x: ir.Value, *axes: int) -> ir.Value:
    back, lowest = [-1] * len(axes), [FRONT] * len(axes)
    return site.op("Slice", x, back, lowest, list(axes), back)


@operation("Rot90")
def rot90(site: CallSite, array: Any) -> ir.Value:
    x, k = site.tensor(array), site.source.k % 4
    a, b = (site.axis(i, site.rank(x)) for i in site.source.axes)
    if k == 0:
        return x
    if k == 2:
        if site.shape(x)[a] != site.shape(x)[b] and keras.backend.backend() == "tensorflow":
            site.refuse("half a turn of other than squares, which Keras on TensorFlow puts together in the wrong order")
        return _flipped(site, x, a, b)
    swapped = list(range(site.rank(x)))
    swapped[a], swapped[b] = b, a
    if k == 1:
        return site.transpose(_flipped(site, x, b), swapped)
    return _flipped(site, site.transpose(x, swapped), b)


@operation("Roll")
def roll(site: CallSite, x: Any) -> ir.Value:
    x, kind = site.tensor(x), site.source
    if kind.axis is None:
        shape = site.op("Shape", x)
        return site.op("Reshape", _rolled(site, site.op("Reshape", x, [-1]), 0, kind.shift), shape)
    axes = [kind.axis] if isinstance(kind.axis, int) else list(kind.axis)
    shifts = [kind.shift] * len(axes) if isinstance(kind.shift, int) else list(kind.shift)
    for axis, amount in zip(axes, shifts, strict=True):
        x = _rolled(site, x, site.axis(axis, site.rank(x)), amount)
    return x


def _rolled(site: CallSite, x: ir.Value, axis: int, shift: Any) -> ir.Value:
    """Rolled along an axis, by a number or a size, which may be beyond the length of the axis."""
    size = site.shape(x)[axis]
    if not shift or size == 1:
        return x
    if isinstance(size, int) and site.build.sizes.recover(shift) is None:
        parts = [size - int(shift) % size]
    else:
        length = site.size(x, axis)
        parts = site.op("Sub", length, site.op("Mod", site.unsqueeze(site.number(shift, ir.DataType.INT64), 0), length))
    back = site.op("Slice", x, parts, np.array([END]), [axis], [1])
    return site.op("Concat", back, site.op("Slice", x, [0], parts, [axis], [1]), axis=axis)


@operation("Pad")
def pad(site: CallSite, x: Any, constant_values: Any = None) -> ir.Value:
    x, kind = site.tensor(x), site.source
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    amounts = list(kind.pad_width) * (site.rank(x) if len(kind.pad_width) == 1 else 1)
    if kind.mode == "symmetric":
        return _mirrored(site, x, amounts)
    if kind.mode not in modes:
        site.refuse(f"padding in the mode '{kind.mode}'")
    if isinstance(constant_values, ir.Value):
        site.refuse("padding with a computed number")
    value = 0 if constant_values is None else np.asarray(constant_values).item()
    return pad_axes(site, x, list(range(site.rank(x))), amounts, value, modes[kind.mode])


def _mirrored(site: CallSite, x: ir.Value, amounts: list[Any]) -> ir.Value:
    """Symmetric padding: mirrored at the edge, including the outermost element."""
    for axis, (before, after) in enumerate(amounts):
        size = site.shape(x)[axis]
        if not before and not after:
            continue
        if not isinstance(size, int) or max(before, after) > size:
            site.refuse("padding by a mirror beyond the size of an axis, or of a size that is not known")
        first = site.slice(x, axis, int(before) - 1, None, -1) if before else None
        last = site.slice(x, axis, -1, size - int(after) - 1 - size, -1) if after else None
        x = site.op("Concat", *(v for v in (first, x, last) if v is not None), axis=axis)
    return x


@operation("Size", "Ndim")
def size(site: CallSite, x: Any) -> ir.Value:
    if site.operation == "Ndim":
        return site.build.value(site.rank(site.tensor(x)), ir.DataType.INT32)
    return site.op("Size", site.tensor(x))


@operation("Full")
def full(site: CallSite, fill_value: Any) -> ir.Value:
    return site.op("Expand", site.promoted(fill_value)[0], sizes_of(site, site.source.shape))


@operation("Arange")
def arange(site: CallSite, start: Any, stop: Any = None, step: Any = None) -> ir.Value:
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if all(isinstance(number, (int, np.integer)) for number in (start, stop, step)):  # its length is seen by integers
        ends = [site.build.value(number, ir.DataType.INT64) for number in (start, stop, step)]
        return site.cast(site.op("Range", *ends), site.dtype)
    return site.op("Range", *site.promoted(start, stop, step))


@operation("Meshgrid")
def meshgrid(site: CallSite, *xs: Any) -> Any:
    values = [site.op("Reshape", site.tensor(v), [-1]) for v in xs]
    count = len(values)
    axes = list(range(count))
    if site.source.indexing == "xy" and count > 1:
        axes[0], axes[1] = 1, 0
    lengths = {axis: site.size(v, 0) for v, axis in zip(values, axes, strict=True)}
    whole = site.op("Concat", *(lengths[i] for i in range(count)), axis=0) if count > 1 else lengths[0]
    return [
        site.op("Expand", site.op("Reshape", v, [-1 if i == axis else 1 for i in range(count)]), whole)
        for v, axis in zip(values, axes, strict=True)
    ]
