"""Ops that rearrange, cut and join tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import ints, placed, rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.arrays import TORCH
from dlbridge.passes import stacked
from dlbridge.source.arithmetic import Element
from dlbridge.source.arrays.elementwise import is_tensor
from dlbridge.source.arrays.shape import (
    FAR,
    Padding,
    cuts_of,
    even_parts,
    filling,
    joined,
    reshaped_to,
    sizes_in_code,
)
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code, join, method, node
from dlbridge.source.tree.expr import Slice


def same(a: Element, b: Element) -> bool:
    """Whether two sizes are the same number or the same expression."""
    return a == b if isinstance(a, int) or isinstance(b, int) else a.key() == b.key()


# --- the same elements in another shape ----------------------------------------------------------------------------


@rules("Reshape")
def reshape(op: Op) -> Emit | Code:
    target, have = reshaped_to(op), op.shape()
    if target is None:
        return call("reshape", op.x, ints(op, 1), allow_zero=True if op.attr("allowzero") else None)
    if have is not None and op.out_shape() is not None:
        sizes = [op.dim(0, axis) for axis in range(len(have))]
        if len(target) == 2 and len(have) > 1 and same(target[0], sizes[0]):
            return Emit(method("flatten", op.x, 1), module=Layer(call("nn.Flatten")))
        start = next(_divided(target, sizes), None)
        if start is not None:
            end = start + len(have) - len(target)
            return method("flatten", op.x, start, *([] if end == len(have) - 1 else [end]))
        is_fixed = all(isinstance(size, int) for size in target)
        for axis in () if is_fixed else _divided(sizes, target):
            parts = target[axis : axis + 1 + len(target) - len(have)]
            if all(isinstance(size, int) and size > 0 for size in parts):
                return method("unflatten", op.x, axis, tuple(parts))
    return method("reshape", op.x, *target) if target else method("reshape", op.x, ())


def _divided(sizes: Sequence[Element], more: Sequence[Element]) -> Iterator[int]:
    """The axes that may stand for several of a longer shape: all others are the same in both."""
    further = len(more) - len(sizes)
    for axis in range(len(sizes)) if further > 0 else ():
        others = [a for a in range(len(sizes)) if a != axis]
        if all(same(sizes[a], more[a if a < axis else a + further]) for a in others):
            yield axis


@rules("Flatten")
def flatten(op: Op) -> Emit | Code:
    rank, axis = op.rank(), op.axis()
    if axis == 0 or axis == rank:
        return method("reshape", op.x, *((1, -1) if axis == 0 else (-1, 1)))
    if axis == 1:
        return Emit(method("flatten", op.x, 1), module=Layer(call("nn.Flatten")))
    head = method("flatten", op.x, 0, axis - 1)
    return head if axis == rank - 1 else method("flatten", head, 1)


@rules("Unsqueeze")
def unsqueeze(op: Op) -> Code:
    axes = op.numbers(1)
    if axes is None:
        return call("unsqueeze", op.x, ints(op, 1))
    if len(axes) == 1:
        return method("unsqueeze", op.x, axes[0])
    rank = op.rank() + len(axes)
    result = op.x
    for axis in sorted(a % rank for a in axes):
        result = method("unsqueeze", result, axis)
    return code("{}", result)


@rules("Transpose")
def transpose(op: Op) -> Code:
    order = op.attr("perm") or list(reversed(range(op.rank())))
    moved = [i for i, axis in enumerate(order) if i != axis]
    if not moved:
        return code("{}", op.x)
    if len(moved) == 2:
        return code("{}.T", op.x) if len(order) == 2 else method("transpose", op.x, *moved)
    return method("permute", op.x, *order)


@rules("Expand")
def expand(op: Op) -> Code:
    target, have, want = op.ints(1), op.shape(), op.out_shape()
    if target is None or have is None:
        return code("{x}.expand(torch.broadcast_shapes({x}.shape, {}))", ints(op, 1), x=op.x)
    rank = max(len(target), len(have))
    new = rank - len(have)
    before, target = [*[1] * new, *have], [*[1] * (rank - len(target)), *target]
    result: list[Element] = []
    for axis, (old, size) in enumerate(zip(before, target, strict=True)):
        if isinstance(size, int) and size == 1:
            result.append(1 if axis < new else -1)
        elif old == 1 or isinstance(size, int):
            result.append(size)
        elif isinstance(old, int) or (want is not None and want[axis] == old):
            result.append(-1)
        else:
            return code("{x}.expand(torch.broadcast_shapes({x}.shape, {}))", tuple(target), x=op.x)
    if all(isinstance(s, int) and s == -1 for s in result):
        return code("{}", op.x)
    return method("expand", op.x, *result)


@rules("Tile")
def tile(op: Op) -> Code:
    repeats = op.ints(1)
    if repeats is None:
        return code("{}.repeat({})", op.x, ints(op, 1))
    return method("repeat", op.x, *repeats) if repeats else code("{}", op.x)


# --- joining and cutting -------------------------------------------------------------------------------------------


@rules("Concat")
def concat(op: Op) -> Code:
    if len(op.tensors) == 1:
        return code("{}", op.x)
    return call("torch.cat", joined(op), dim=op.attr("axis") or None)


@rules("Stack", domain=stacked.DOMAIN)
def stack(op: Op) -> Code:
    return call("torch.stack", joined(op), dim=op.attr("axis") or None)


@rules("Split")
def split(op: Op) -> Emit:
    count, axis = len(op.node.outputs), op.attr("axis")
    dim = {"dim": axis} if axis else {}
    if count == 1:
        return Emit(code("{}", op.x))
    given = ints(op, 1) if op.has(1) else None
    given = even_parts(op, axis, count) if given is None else given
    if given is None:
        return Emit(call("split_evenly", op.x, count, **dim))
    if isinstance(given, list) and all(isinstance(s, int) and s == given[0] for s in given):
        return Emit(method("chunk", op.x, count, **dim) if given[0] else method("split", op.x, given, **dim))
    return Emit(method("split", op.x, given, **dim))


@rules("Slice")
def slice_(op: Op) -> Code:
    asked = cuts_of(op)
    if asked is None:
        given = [code("{}", ints(op, i)) if op.has(i) else None for i in (1, 2, 3, 4)]
        return call("slice_", op.x, given[0], given[1], axes=given[2], steps=given[3])
    result = op.x
    cuts: dict[int, Slice] = {}
    for start, end, given_axis, step in asked:
        axis = given_axis if given_axis >= 0 else given_axis + op.rank()
        if step > 0:
            cuts[axis] = _cut(start, end, step)
        elif _is_whole_backwards(start, end, step):
            result = method("flip", result, axis)
        else:
            result = call("slice_", result, [start], [end], [axis], [step])
    cuts = {axis: cut for axis, cut in cuts.items() if not cut.is_all}
    if not cuts:
        return code("{}", result)
    return code("{}[{}]", result, join(", ", [cuts.get(a, Slice()) for a in range(max(cuts) + 1)]))


def _cut(start: Element, end: Element, step: int) -> Slice:
    first = None if isinstance(start, int) and start == 0 else node(start, "start")
    last = None if isinstance(end, int) and end >= FAR else node(end, "end")
    return Slice(first, last, None if step == 1 else node(step, "step"))


def _is_whole_backwards(start: Element, end: Element, step: int) -> bool:
    whole = isinstance(start, int) and isinstance(end, int) and (start == -1 or start >= FAR) and end <= -FAR
    return step == -1 and whole


@rules("Pad")
def pad(op: Op) -> Code:
    asked = Padding.of(op, TORCH)
    if asked.pairs is None:
        axes = ints(op, 3) if op.has(3) else None
        return call("pad", op.x, ints(op, 1), asked.mode, asked.value, axes=axes)
    amounts = {axis: pair for axis, pair in enumerate(asked.pairs) if pair != (0, 0)}
    if not amounts:
        return code("{}", op.x)
    if asked.mode == "constant":
        return call("F.pad", op.x, _from_last(op, amounts, min(amounts)), value=asked.fill)
    mode = _pad_mode(op, asked, amounts)
    if mode is not None:
        return call("F.pad", op.x, _from_last(op, amounts, 2), mode=mode)
    axes = None if op.value(3) is None else [axis % op.rank() for axis in op.numbers(3) or []]
    return call("pad", op.x, op.ints(1), asked.mode, axes=axes)


#: Axis -> what is added before and behind.
_Amounts = dict[int, tuple[Element, Element]]


def _from_last(op: Op, amounts: _Amounts, first: int) -> tuple[Element, ...]:
    """The amounts as ``F.pad`` takes them: those of the last axis, of the one before it, down to ``first``."""
    return tuple(n for axis in range(op.rank() - 1, first - 1, -1) for n in amounts.get(axis, (0, 0)))


def _pad_mode(op: Op, asked: Padding, amounts: _Amounts) -> str | None:
    """What ``F.pad`` calls the mode; None where it has none: it mirrors floats, along spatial axes alone."""
    if not asked.only_adds or not op.dtype().is_floating_point() or op.rank() not in (3, 4, 5) or min(amounts) < 2:
        return None
    if asked.mode == "edge":
        return "replicate"
    is_inside = all(_reflects(op, axis, pair) for axis, pair in amounts.items())
    return "reflect" if asked.mode == "reflect" and is_inside else None


def _reflects(op: Op, axis: int, amounts: tuple[Element, Element]) -> bool:
    """Whether an axis has as many elements as are reflected, or its size is not known."""
    size = (op.shape() or [])[axis]
    return all(isinstance(n, int) and (not isinstance(size, int) or n < size) for n in amounts)


@rules("DepthToSpace", "SpaceToDepth")
def depth_space(op: Op) -> Emit | Code:
    size, to_space = op.attr("blocksize"), op.key == "DepthToSpace"
    if op.attr("mode", "DCR") == "CRD":
        if to_space:
            return Emit(call("F.pixel_shuffle", op.x, size), module=Layer(call("nn.PixelShuffle", size)))
        return Emit(call("F.pixel_unshuffle", op.x, size), module=Layer(call("nn.PixelUnshuffle", size)))
    return call("depth_to_space" if to_space else "space_to_depth", op.x, size)


# --- shapes and new tensors ----------------------------------------------------------------------------------------


@rules("Shape")
def shape(op: Op) -> Code:
    return code("torch.tensor({}, dtype=torch.int64)", sizes_in_code(op))


@rules("Size")
def size(op: Op) -> Code:
    return code("torch.tensor({}.numel())", op.x)


@rules("ConstantOfShape")
def constant_of_shape(op: Op) -> Code:
    value = filling(op)
    dtype = torch_dtype(op, op.out_dtype())
    known = op.ints(0)
    target = ints(op, 0) if known is None else tuple(known)
    keyword = None if str(dtype) == "torch.float32" else dtype
    if value in (0, 1):
        return placed(call("torch.zeros" if value == 0 else "torch.ones", target, dtype=keyword))
    return placed(call("torch.full", target, value, dtype=dtype))


@rules("Range")
def range_(op: Op) -> Code:
    numbers = [op.operand(i) for i in range(3)]
    start, limit, step = (code("{}.item()", n) if is_tensor(n) else n for n in numbers)
    whole = op.out_dtype() == ir.DataType.INT64  # what torch takes for whole numbers
    if not _is(step, 1):
        given = [start, limit, step]
    elif not _is(start, 0):
        given = [start, limit]
    else:
        given = [limit]
    return placed(call("torch.arange", *given, dtype=None if whole else torch_dtype(op, op.out_dtype())))


def _is(number: Any, value: int) -> bool:
    return not isinstance(number, Code) and bool(np.asarray(number) == value)


@rules("EyeLike")
def eye_like(op: Op) -> Code:
    dtype, diagonal = torch_dtype(op, op.out_dtype()), op.attr("k")
    if diagonal == 0:
        return placed(call("torch.eye", *op.sizes(), dtype=dtype))
    ones = placed(call("torch.ones", tuple(op.sizes()), dtype=dtype))
    return code("{}.triu({k}).tril({k})", ones, k=Literal(diagonal, "diagonal"))


@rules("Trilu")
def triangle(op: Op) -> Code:
    diagonal = op.operand(1) if op.has(1) else 0
    if op.has(1) and op.ints(1) is None:
        diagonal = code("{}.item()", op[1])
    name = "triu" if op.attr("upper") else "tril"
    is_zero = not isinstance(diagonal, Code) and np.asarray(diagonal).size == 1 and int(np.asarray(diagonal)) == 0
    return method(name, op.x) if is_zero else method(name, op.x, diagonal)
