"""Ops that rearrange, cut and join tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.rules import broadcasts_far, in_dtype, ints, keras_dtype, number, rules
from dlbridge.frameworks.keras.writes.elementwise import is_tensor
from dlbridge.passes import layout
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
        return call("reshape", op.x, ints(op, 1), allow_zero=True if op.attr("allowzero") else None)
    if not op.attr("allowzero"):
        target = [op.dim(0, i) if isinstance(s, int) and s == 0 else s for i, s in enumerate(target)]
    return reshape_to(op, target)


@rules("Flatten")
def flatten(op: Op) -> Emit | Code:
    axis = op.axis()
    if axis == 1:
        return Emit(code("ops.reshape({}, ({}, -1))", op.x, op.dim(0, 0)), module=Layer(call("layers.Flatten")))
    dims = [op.dim(0, i) for i in range(op.rank())]
    head, tail = _product(dims[:axis]), _product(dims[axis:])
    if isinstance(head, int) and isinstance(tail, int):
        return call("ops.reshape", op.x, (head, tail))
    return call("ops.reshape", op.x, (head, -1) if head != 0 and not isinstance(tail, int) else (-1, tail))


def _product(dims: list[Element]) -> Element:
    known = math.prod(d for d in dims if isinstance(d, int))
    unknown = [d for d in dims if not isinstance(d, int)]
    return known if not unknown else join(" * ", unknown if known == 1 else [known, *unknown])


@rules("Transpose")
def transpose(op: Op) -> Emit | Code:
    order = op.attr("perm") or list(reversed(range(op.rank())))
    plain = call("ops.transpose", op.x, tuple(order))
    if order == sorted(order):
        return code("{}", op.x)
    if order[0] == 0 and not isinstance((op.shape() or [0])[0], int):
        return Emit(plain, module=Layer(code("layers.Permute({})", Literal(tuple(order[1:]), "dims"))))
    return plain


@rules("Squeeze")
def squeeze(op: Op) -> Code:
    if not op.has(1):
        return call("ops.squeeze", op.x)
    axes = ints(op, 1)
    if isinstance(axes, Code):
        return call("ops.squeeze", op.x, axis=code("tuple({})", axes))
    return call("ops.squeeze", op.x, axis=_one_or_all(axes)) if axes else code("{}", op.x)


def _one_or_all(axes: list[Any]) -> Any:
    return axes[0] if len(axes) == 1 else tuple(axes)


@rules("Unsqueeze")
def unsqueeze(op: Op) -> Code:
    axes = ints(op, 1)
    if isinstance(axes, Code):
        return call("ops.expand_dims", op.x, axis=code("tuple({})", axes))
    return call("ops.expand_dims", op.x, axis=_one_or_all(axes)) if axes else code("{}", op.x)


@rules("Concat")
def concat(op: Op) -> Emit | Code:
    axis = op.attr("axis")
    if len(op.tensors) == 1:
        return code("{}", op.x)
    return code("ops.concatenate({}, axis={axis})", op.tensors, axis=axis)


@rules("Split")
def split(op: Op) -> Emit:
    axis, count = op.axis(), len(op.node.outputs)
    given = ints(op, 1) if op.has(1) else None
    if count == 1:
        return Emit(code("{}", op.x))
    keywords = {"axis": axis} if axis else {}
    total = (op.shape() or {axis: None})[axis]  # type: ignore[index]
    if given is None and isinstance(total, int):
        part = -(-total // count)
        given = [max(0, min(part, total - i * part)) for i in range(count)]
    if given is None:
        return Emit(call("split_evenly", op.x, count, **keywords))
    if isinstance(given, Code) or not all(isinstance(n, int) for n in given):
        return Emit(call("split_sizes", op.x, given, **keywords))
    even = len(set(given)) == 1 and given[0] > 0
    where = count if even else [sum(given[: i + 1]) for i in range(count - 1)]
    return Emit(call("ops.split", op.x, where, **keywords))


@rules("Slice")
def slice_(op: Op) -> Code:
    starts, ends = op.ints(1), op.ints(2)
    axes = op.numbers(3) if op.has(3) else list(range(len(starts or [])))
    steps = op.numbers(4) if op.has(4) else [1] * len(starts or [])
    if starts is None or ends is None or axes is None or steps is None or op.shape() is None:
        axes_or_none, steps_or_none = (ints(op, i) if op.has(i) else None for i in (3, 4))
        return call("slice_", op.x, ints(op, 1), ints(op, 2), axes=axes_or_none, steps=steps_or_none)
    result, rank = op.x, op.rank()
    parts: list[Any] = [":"] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            # Not every backend counts backwards: the same elements, in the flipped tensor.
            result = call("ops.flip", result, axis=axis)
            start, end, step = _mirrored(start), _mirrored(end), -step
        parts[axis % rank] = _bounds(start, end, step)
    while parts and parts[-1] == ":":
        parts.pop()
    if not parts:
        return code("{}", result)
    if len(parts) == 1:
        parts.append("...")  # symbolic tensors take no single slice
    return code("{}[{}]", result, join(", ", [Raw(p) if isinstance(p, str) else p for p in parts]))


def _mirrored(bound: Element) -> Element:
    return -1 - bound if isinstance(bound, int) else code("-1 - ({})", bound)


def _bounds(start: Element, end: Element, step: int) -> Any:
    """``start:end:step``; a step is positive."""
    start, end = (max(-_FAR, min(b, _FAR)) if isinstance(b, int) else b for b in (start, end))
    first = Raw("") if isinstance(start, int) and start in (0, -_FAR) else start
    last = Raw("") if isinstance(end, int) and end == _FAR else end
    if isinstance(first, Raw) and isinstance(last, Raw) and step == 1:
        return ":"
    text = code("{}:{}", first, last)
    return text if step == 1 else code("{}:{}", text, step)


@rules("Expand")
def expand(op: Op) -> Code:
    target, have, want = op.ints(1), op.shape(), op.out_shape()
    if want is not None and have == want:
        return code("{}", op.x)
    if target is None or have is None:
        return call("expand", op.x, ints(op, 1))
    rank = max(len(target), len(have))
    before = [1] * (rank - len(have)) + have
    asked = [1] * (rank - len(target)) + target
    result: list[Element] = []
    for axis, (old, size) in enumerate(zip(before, asked, strict=True)):
        if old == 1:
            result.append(size)
        elif isinstance(old, int) or (isinstance(size, int) and size == 1):
            result.append(op.dim(0, axis - rank + len(have)))
        elif isinstance(size, int) or (want is not None and want[axis] == old):
            result.append(size if isinstance(size, int) else op.dim(0, axis - rank + len(have)))
        else:
            return call("expand", op.x, tuple(target))
    if broadcasts_far(have, want):
        return call("expand", op.x, tuple(target))
    return call("ops.broadcast_to", op.x, tuple(result))


@rules("Tile")
def tile(op: Op) -> Code:
    if op.dtype() == ir.DataType.UINT16:  # TensorFlow's backend lacks it
        return in_dtype(op, call("ops.tile", call("ops.cast", op.x, "int32"), ints(op, 1)))
    return call("ops.tile", op.x, ints(op, 1))


#: The most axes of a tensor that TensorFlow pads with a constant, and with the tensor's own elements.
_MOST_PADDED, _MOST_MIRRORED = 6, 5


@rules("Pad")
def pad(op: Op) -> Emit | Code:
    mode, pads, rank = op.attr("mode"), op.ints(1), op.rank()
    axes = op.numbers(3) if op.has(3) else list(range(rank))
    value = op.operand(2) if op.has(2) and mode == "constant" else 0
    if is_tensor(value):
        value = number(op, 2)
    options = {
        "mode": None if mode == "constant" else mode,
        "value": value if isinstance(value, Code) else value or None,
    }
    if pads is None or axes is None:
        return call("pad", op.x, ints(op, 1), **options, axes=ints(op, 3) if op.has(3) else None)
    pairs: list[Any] = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pairs[axis % rank] = (pads[place], pads[len(axes) + place])
    amounts = [a for pair in pairs for a in pair]
    if all(isinstance(a, int) and a == 0 for a in amounts):
        return code("{}", op.x)
    known = _pad_mode(mode, pairs, op.shape() or [])
    if mode == "constant" and rank > _MOST_PADDED:
        op.refuse(f"TensorFlow pads tensors of at most {_MOST_PADDED} axes")
    if rank > _MOST_MIRRORED and mode != "constant":
        known = None
    if known is None or not all(isinstance(a, int) and a >= 0 for a in amounts):
        chosen = [axis for axis, pair in enumerate(pairs) if pair != (0, 0)]
        flat = [pairs[a][0] for a in chosen] + [pairs[a][1] for a in chosen]
        return call("pad", op.x, flat, **options, axes=chosen)
    keywords = {} if known == "constant" else {"mode": known}
    keywords |= {"constant_values": value} if isinstance(value, Code) or value != 0 else {}
    return Emit(call("ops.pad", op.x, pairs, **keywords), module=None if keywords else _zero_padding(pairs))


def _zero_padding(pairs: list[Any]) -> Layer | None:
    """The layer that pads all axes but the batch and the channels, the last one, with zeros."""
    inner, count = pairs[1:-1], len(pairs) - 2
    if count not in (1, 2, 3) or pairs[0] != (0, 0) or pairs[-1] != (0, 0):
        return None
    before, after = inner[0]
    amount = before if before == after and len(set(inner)) == 1 else tuple(inner) if count > 1 else inner[0]
    return Layer(call(f"layers.ZeroPadding{count}D", Literal(amount, "padding")))


def _pad_mode(mode: str, pairs: list[Any], have: list[Dim]) -> str | None:
    """What Keras calls the mode, if it does the same for these amounts."""
    amounts = [a for pair in pairs for a in pair if isinstance(a, int)]
    if mode == "edge":
        return "symmetric" if all(a <= 1 for a in amounts) else None
    if mode == "reflect":
        fits = all(
            (isinstance(d, int) and max(pair) < d) or pair == (0, 0) for pair, d in zip(pairs, have, strict=True)
        )
        return "reflect" if fits else None
    return mode if mode == "constant" else None


@rules("CenterCropPad")
def center_crop_pad(op: Op) -> Code:
    return call("center_crop_pad", op.x, ints(op, 1), axes=op.attr("axes"))


@rules("DepthToSpace", "SpaceToDepth", domain=layout.DOMAIN)
def depth_space(op: Op) -> Code:
    name = "depth_to_space" if op.key == "DepthToSpace" else "space_to_depth"
    side_by_side = {"blocks_first": False} if op.attr("mode", "DCR") == "CRD" else {}
    return call(name, op.x, op.attr("blocksize"), op.dim(0, 1), op.dim(0, 2), **side_by_side)


# --- shapes and new tensors ----------------------------------------------------------------------------------------


@rules("Identity")
def identity(op: Op) -> Code:
    return code("{}", op.x)


@rules("Shape")
def shape(op: Op) -> Code:
    if op.shape() is None:
        cut = f"[{op.attr('start') or ''}:{op.attr('end', '')}]" if op.attr("start") or op.attr("end") else ""
        return code(f'ops.convert_to_tensor(ops.shape({{}}){cut}, dtype="int64")', op.x)
    items = [op.dim(0, axis) for axis in range(op.rank())][slice(op.attr("start"), op.attr("end", op.rank()))]
    return call("ops.convert_to_tensor", items, dtype="int64")


@rules("Size")
def size(op: Op) -> Code:
    return call("ops.convert_to_tensor", _product([op.dim(0, axis) for axis in range(op.rank())]), dtype="int64")


@rules("ConstantOfShape")
def constant_of_shape(op: Op) -> Code:
    attribute = op.node.attributes.get("value")
    value = attribute.as_tensor().numpy().reshape(-1)[0] if attribute is not None else np.float32(0)
    target = ints(op, 0)
    target = tuple(target) if isinstance(target, list) else target
    dtype = None if op.out_dtype() == ir.DataType.FLOAT else keras_dtype(op, op.out_dtype())
    if value in (0, 1) and dtype is None:
        return call("ops.zeros" if value == 0 else "ops.ones", target)
    return call("ops.full", target, value, dtype=keras_dtype(op, op.out_dtype()))


@rules("Constant")
def constant(op: Op) -> Code:
    name, attribute = next(iter(op.node.attributes.items()))
    value = attribute.as_tensor().numpy() if name == "value" else attribute.value
    return call("ops.array", value, dtype=keras_dtype(op, op.out_dtype()))


@rules("Range")
def range_(op: Op) -> Code:
    start, limit, step = (number(op, i) for i in range(3))
    return call("ops.arange", start, limit, step, dtype=keras_dtype(op, op.out_dtype()))


@rules("EyeLike")
def eye_like(op: Op) -> Code:
    dtype = None if op.out_dtype() == ir.DataType.FLOAT else keras_dtype(op, op.out_dtype())
    if op.attr("k"):  # of another diagonal, TensorFlow's backend makes another shape when columns are few
        return call("diagonal_of_ones", op.dim(0, 0), op.dim(0, 1), k=op.attr("k"), dtype=dtype)
    return call("ops.eye", op.dim(0, 0), op.dim(0, 1), dtype=dtype)


@rules("Trilu")
def triangle(op: Op) -> Code:
    k, name = number(op, 1) if op.has(1) else 0, "triu" if op.attr("upper") else "tril"
    sizes = [d if isinstance(d, int) else 1 for d in (op.shape() or [1, 1])[-2:]]
    if isinstance(k, int) and min(sizes) > 0 and abs(k) <= min(sizes):
        return call(f"ops.{name}", op.x, k=k or None)
    return call("triangle", op.x, k, upper=True if name == "triu" else None)
