"""Ops that rearrange, cut and join tensors."""

from __future__ import annotations

import math
from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.arithmetic import Element
from dlbridge.source.code import Code, Literal, Raw, call, code, join
from dlbridge.source.op import Dim, Emit, Layer, Op

#: Ends of slices beyond this mean 'to the end'.
_FAR = 2**31 - 1


def _is_static(dims: list[Dim]) -> bool:
    return all(isinstance(d, int) for d in dims)


def reshape_to(op: Op, target: list[Element]) -> Emit | Code:
    """``x`` in a shape whose sizes are numbers or code; said without sizes where that is possible."""
    have, want = op.shape(), op.out_shape()
    if have is not None and want is not None and have and want:
        unknown = [i for i, d in enumerate(want) if not isinstance(d, int)]
        kept = want[0] == have[0] and (not isinstance(want[0], int))
        if kept and len(unknown) <= 2:
            rest = tuple(d if isinstance(d, int) else -1 for d in want[1:])
            if 0 not in rest:
                flat = len(rest) == 1 and _is_static(have[1:]) and rest[0] in (-1, math.prod(have[1:]))  # type: ignore[arg-type]
                new = call("layers.Flatten") if flat else code("layers.Reshape({})", Literal(rest, "target_shape"))
                return Emit(call("ops.reshape", op.x, _shape(target, want)), module=Layer(new))
        if len(unknown) <= 1 and 0 not in want:
            return call("ops.reshape", op.x, tuple(d if isinstance(d, int) else -1 for d in want))
    return call("ops.reshape", op.x, tuple(target))


def _shape(target: list[Element], want: list[Dim]) -> Any:
    if sum(not isinstance(d, int) for d in want) <= 1 and 0 not in want:
        return tuple(d if isinstance(d, int) else -1 for d in want)
    return tuple(target)


@rules("Reshape")
def reshape(op: Op) -> Emit | Code:
    target = op.ints(1)
    if target is None:
        op.refuse("its shape is computed from data")
    if not op.attr("allowzero"):
        target = [op.dim(0, i) if isinstance(s, int) and s == 0 else s for i, s in enumerate(target)]  # type: ignore[arg-type]
    return reshape_to(op, target)  # type: ignore[arg-type]


@rules("Flatten")
def flatten(op: Op) -> Emit | Code:
    axis = op.attr("axis")
    axis = axis + op.rank() if axis < 0 else axis
    if axis == 1:
        return Emit(code("ops.reshape({}, ({}, -1))", op.x, op.dim(0, 0)), module=Layer(call("layers.Flatten")))
    shape = op.shape() or []
    head = math.prod(shape[:axis]) if _is_static(shape[:axis]) else -1  # type: ignore[arg-type]
    tail = math.prod(shape[axis:]) if _is_static(shape[axis:]) else -1  # type: ignore[arg-type]
    if head == -1 and tail == -1:
        op.refuse("sizes on both sides of its axis are not known")
    return call("ops.reshape", op.x, (head, tail))


@rules("Transpose")
def transpose(op: Op) -> Emit | Code:
    order = op.attr("perm") or list(reversed(range(op.rank())))
    plain = call("ops.transpose", op.x, tuple(order))
    if order[0] == 0 and len(order) > 1 and not isinstance((op.shape() or [0])[0], int):
        return Emit(plain, module=Layer(code("layers.Permute({})", Literal(tuple(order[1:]), "dims"))))
    return plain


@rules("Squeeze")
def squeeze(op: Op) -> Code:
    axes = op.numbers(1) if op.has(1) else None
    if op.has(1) and axes is None:
        op.refuse("its axes are computed")
    return call("ops.squeeze", op.x, axis=(axes[0] if len(axes) == 1 else tuple(axes)) if axes else None)


@rules("Unsqueeze")
def unsqueeze(op: Op) -> Code:
    axes = op.numbers(1)
    if axes is None:
        op.refuse("its axes are computed")
    rank = op.rank() + len(axes)  # type: ignore[arg-type]
    result: Any = op.x
    for axis in sorted(a % rank for a in axes):  # type: ignore[union-attr]
        result = call("ops.expand_dims", result, axis)
    return result


@rules("Concat")
def concat(op: Op) -> Emit | Code:
    axis = op.attr("axis")
    if len(op.tensors) == 1:
        return code("{}", op.x)
    return code("ops.concatenate({}, axis={axis})", op.tensors, axis=axis)


@rules("Split")
def split(op: Op) -> Emit:
    axis, count = op.axis(), len(op.node.outputs)
    sizes = op.numbers(1) if op.has(1) else None
    total = (op.shape() or [])[axis]
    if sizes is None and op.has(1):
        op.refuse("its sizes are computed")
    if sizes is None and isinstance(total, int):
        each = -(-total // count)
        sizes = [each] * (count - 1) + [total - each * (count - 1)]
    even = sizes is None or len(set(sizes)) == 1
    where: Any = count
    if not even:
        where = [sum(sizes[: i + 1]) for i in range(count - 1)]  # type: ignore[index]
    targets = "{0}" if count > 1 else "({0},)"
    return Emit(
        call("ops.split", op.x, where, axis=axis or None),
        targets=None if count > 1 else targets,
    )


@rules("Slice")
def slice_(op: Op) -> Code:
    starts, ends = op.ints(1), op.ints(2)
    axes = op.numbers(3) if op.has(3) else list(range(len(starts or [])))
    steps = op.numbers(4) if op.has(4) else [1] * len(starts or [])
    if starts is None or ends is None or axes is None or steps is None:
        op.refuse("its bounds are computed from data")
    pieces = [":"] * op.rank()
    rank = op.rank()
    parts: list[Any] = list(pieces)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):  # type: ignore[arg-type]
        parts[axis % rank] = _bounds(start, end, step)
    while parts and parts[-1] == ":":
        parts.pop()
    if not parts:
        return code("{}", op.x)
    return code("{}[{}]", op.x, join(", ", [Raw(p) if isinstance(p, str) else p for p in parts]))


def _bounds(start: Element, end: Element, step: int) -> Any:
    first: Any = "" if isinstance(start, int) and (start == 0 if step > 0 else start >= _FAR or start == -1) else start
    last: Any = "" if isinstance(end, int) and (end >= _FAR if step > 0 else end <= -_FAR) else end
    show = [Raw("") if isinstance(v, str) else v for v in (first, last)]
    text = code("{}:{}", *show)
    return text if step == 1 else code("{}:{}", text, step)


@rules("Expand")
def expand(op: Op) -> Code:
    target, have = op.ints(1), op.shape()
    if target is None or have is None:
        op.refuse("its shape is computed from data")
    missing = len(target) - len(have)  # type: ignore[arg-type]
    want = op.out_shape()
    if want is not None and have == want:
        return code("{}", op.x)
    sizes = [1] * max(-missing, 0) + list(target)  # type: ignore[arg-type]
    result = []
    for axis, size in enumerate(sizes):
        index = axis - max(missing, 0)
        keeps = isinstance(size, int) and size == 1 and index >= 0
        result.append(op.dim(0, index) if keeps else size)
    return call("ops.broadcast_to", op.x, tuple(result))


@rules("Tile")
def tile(op: Op) -> Code:
    repeats = op.ints(1)
    if repeats is None:
        op.refuse("its repeats are computed from data")
    return call("ops.tile", op.x, tuple(repeats))  # type: ignore[arg-type]


@rules("Identity")
def identity(op: Op) -> Code:
    return code("{}", op.x)


@rules("Shape")
def shape(op: Op) -> Code:
    rank = op.rank()
    items = [op.dim(0, axis) for axis in range(rank)][slice(op.attr("start"), op.attr("end", rank))]
    return call("ops.convert_to_tensor", items, dtype="int64")
