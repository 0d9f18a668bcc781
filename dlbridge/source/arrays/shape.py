"""Ops that rearrange, cut and join arrays, and that make new ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.passes import layout, stacked
from dlbridge.source.arithmetic import Element
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, Raw, call, code, cut, join
from dlbridge.source.tree.expr import Slice

shape = Family()

#: Ends of slices beyond this mean 'to the end'.
FAR = 2**31 - 1


def product(dims: list[Element]) -> Element:
    """The product of sizes: a number, or code with the known ones multiplied."""
    known = math.prod(d for d in dims if isinstance(d, int))
    unknown = [d for d in dims if not isinstance(d, int)]
    return known if not unknown else join(" * ", unknown if known == 1 else [known, *unknown])


def reshaped_to(op: Op) -> list[Element] | None:
    """The sizes to which a Reshape is written, with -1 for one that follows; None where they are read at run time."""
    target = op.ints(1)
    if target is None:
        return None
    target = own_sizes(op, target)
    have, made = op.shape(), op.out_shape()
    if have is None or made is None:
        return target
    target = [own_size(op, size, dim, have) for size, dim in zip(target, made, strict=True)]
    if all(isinstance(size, int) and size != 0 for size in target):
        return target
    return [dim if size == -1 and isinstance(dim, int) else size for size, dim in zip(target, made, strict=True)]


def own_sizes(op: Op, target: list[Element]) -> list[Element]:
    """The target of a Reshape, with the sizes that 0 stands for."""
    if op.attr("allowzero"):
        return target
    return [op.dim(0, i) if isinstance(s, int) and s == 0 else s for i, s in enumerate(target)]


def own_size(op: Op, size: Element, name: Any, have: list[Any]) -> Element:
    """A size that is taken from another tensor, as one of the input's own, where that has it too."""
    return op.dim(0, have.index(name)) if isinstance(size, Code) and isinstance(name, str) and name in have else size


@shape("Squeeze")
def squeeze(op: Op, arrays: ArrayDialect) -> Code:
    if not op.has(1):
        return arrays.call("squeeze", op.x)
    axes = arrays.ints(op, 1)
    if isinstance(axes, Code):
        return arrays.call("squeeze", op.x, axis=code("tuple({})", axes))
    return arrays.call("squeeze", op.x, axis=_one_or_all(axes)) if axes else code("{}", op.x)


def _one_or_all(axes: list[Any]) -> Any:
    return axes[0] if len(axes) == 1 else tuple(axes)


@shape("Unsqueeze")
def unsqueeze(op: Op, arrays: ArrayDialect) -> Code:
    axes = arrays.ints(op, 1)
    if isinstance(axes, Code):
        return arrays.call("expand_dims", op.x, axis=code("tuple({})", axes))
    return arrays.call("expand_dims", op.x, axis=_one_or_all(axes)) if axes else code("{}", op.x)


@shape("Concat")
def concat(op: Op, arrays: ArrayDialect) -> Emit | Code:
    axis = op.attr("axis")
    if len(op.tensors) == 1:
        return code("{}", op.x)
    return code(f"{arrays.name('concatenate')}({{}}, axis={{axis}})", joined(op), axis=axis)


@shape("Stack", domain=stacked.DOMAIN)
def stack(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("stack", joined(op), axis=op.attr("axis") or None)


def joined(op: Op) -> Any:
    """The list of the tensors that an op joins; of many times the same one, ``[x] * 12``."""
    is_one = len(set(op.node.inputs)) == 1 and len(op.tensors) > 2
    return code("[{}] * {}", op.tensors[0], len(op.tensors)) if is_one else op.tensors


def even_parts(op: Op, axis: int, count: int) -> list[int] | None:
    """The sizes of ``count`` parts of an axis, the last of which may be smaller; None where its size is not known."""
    total = (op.shape() or {axis: None})[axis]  # type: ignore[index]
    if not isinstance(total, int):
        return None
    part = -(-total // count)
    return [max(0, min(part, total - i * part)) for i in range(count)]


@shape("Split")
def split(op: Op, arrays: ArrayDialect) -> Emit:
    axis, count = op.axis(), len(op.node.outputs)
    given = arrays.ints(op, 1) if op.has(1) else None
    if count == 1:
        return Emit(code("{}", op.x))
    keywords = {"axis": axis} if axis else {}
    given = even_parts(op, axis, count) if given is None else given
    if given is None:
        return Emit(call("split_evenly", op.x, count, **keywords))
    if isinstance(given, Code) or not all(isinstance(n, int) for n in given):
        return Emit(call("split_sizes", op.x, given, **keywords))
    even = len(set(given)) == 1 and given[0] > 0
    where = count if even else [sum(given[: i + 1]) for i in range(count - 1)]
    return Emit(arrays.call("split", op.x, where, **keywords))


def cuts_of(op: Op) -> list[tuple[Element, Element, int, int]] | None:
    """(start, end, axis, step) of each cut of a Slice; None where that is known only when the model runs."""
    starts, ends = op.ints(1), op.ints(2)
    if starts is None or ends is None:
        return None
    axes = op.numbers(3) if op.has(3) else list(range(len(starts)))
    steps = op.numbers(4) if op.has(4) else [1] * len(starts)
    if axes is None or steps is None:
        return None
    return list(zip(starts, ends, axes, steps, strict=True))


@shape("Slice")
def slice_(op: Op, arrays: ArrayDialect) -> Code:
    cuts = cuts_of(op)
    if cuts is None or op.shape() is None:
        axes_or_none, steps_or_none = (arrays.ints(op, i) if op.has(i) else None for i in (3, 4))
        return call("slice_", op.x, arrays.ints(op, 1), arrays.ints(op, 2), axes=axes_or_none, steps=steps_or_none)
    result, rank = op.x, op.rank()
    parts = [cut()] * rank
    for start, end, axis, step in cuts:
        if step < 0:
            # Not every framework counts backwards: the same elements, in the flipped array.
            result = arrays.call("flip", result, axis=axis)
            start, end, step = _mirrored(start), _mirrored(end), -step
        parts[axis % rank] = _bounds(start, end, step)
    while parts and parts[-1].is_all:
        parts.pop()
    if not parts:
        return code("{}", result)
    more = [Raw("...")] if len(parts) == 1 else []  # symbolic tensors take no single slice
    return code("{}[{}]", result, join(", ", [*parts, *more]))


def _mirrored(bound: Element) -> Element:
    return -1 - bound if isinstance(bound, int) else code("-1 - {}", bound)


def _bounds(start: Element, end: Element, step: int) -> Slice:
    """``start:end:step``; a step is positive."""
    start, end = (max(-FAR, min(b, FAR)) if isinstance(b, int) else b for b in (start, end))
    first = None if isinstance(start, int) and start in (0, -FAR) else start
    last = None if isinstance(end, int) and end == FAR else end
    return cut(first, last, None if step == 1 else step)


@shape("Expand")
def expand(op: Op, arrays: ArrayDialect) -> Code:
    want = op.out_shape()
    if want is not None and op.shape() == want:
        return code("{}", op.x)
    target, have = op.ints(1), op.shape()
    sizes = None if target is None or have is None else broadcast_sizes(op, target)
    if sizes is None:
        return call("expand", op.x, arrays.ints(op, 1) if target is None or have is None else tuple(target))
    return arrays.call("broadcast_to", op.x, tuple(sizes))


def broadcast_sizes(op: Op, target: list[Element]) -> list[Element] | None:
    """The shape that the first input and a target broadcast to; None where only run time can tell."""
    have, want = op.shape() or [], op.out_shape()
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
            return None
    return result


@shape("Tile")
def tile(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("tile", op.x, arrays.ints(op, 1))


def paddings(op: Op) -> list[tuple[Element, Element]] | None:
    """What a Pad adds before and behind each axis; None where that is known only when the model runs."""
    have, pads = op.shape(), op.ints(1)
    axes = op.numbers(3) if op.has(3) else list(range(len(have or ())))
    if have is None or pads is None or axes is None:
        return None
    found: list[tuple[Element, Element]] = [(0, 0)] * len(have)
    for axis, before, behind in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        found[axis % len(have)] = before, behind
    return found


@dataclass(frozen=True)
class Padding:
    """What a Pad node asks for.

    Attributes:
        mode: "constant", "reflect", "edge" or "wrap".
        pairs: What is added before and behind each axis; None where that is known only when the model runs.
        value: The constant: a number, or code that reads it.
    """

    mode: str
    pairs: list[tuple[Element, Element]] | None
    value: Any

    @classmethod
    def of(cls, op: Op, arrays: ArrayDialect) -> Padding:
        """That of a node."""
        mode = op.attr("mode")
        value = arrays.number(op, 2) if mode == "constant" and op.has(2) else 0
        return cls(mode, paddings(op), value)

    @property
    def adds_nothing(self) -> bool:
        return self.pairs is not None and all(pair == (0, 0) for pair in self.pairs)

    @property
    def only_adds(self) -> bool:
        """Whether all amounts are known, and none is negative, which would cut."""
        return self.pairs is not None and all(isinstance(a, int) and a >= 0 for pair in self.pairs for a in pair)

    @property
    def fill(self) -> Any:
        """The constant; None for 0, which is every function's default."""
        return self.value if isinstance(self.value, Code) else self.value or None

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of the helper ``pad``, but for those of its defaults."""
        return {"mode": None if self.mode == "constant" else self.mode, "value": self.fill}


def pad_at_run_time(op: Op, arrays: ArrayDialect, asked: Padding) -> Code:
    """A call of the helper ``pad`` with what the node's inputs hold when the model runs."""
    axes = arrays.ints(op, 3) if op.has(3) else None
    return call("pad", op.x, arrays.ints(op, 1), **asked.options, axes=axes)


@shape("CenterCropPad")
def center_crop_pad(op: Op, arrays: ArrayDialect) -> Code:
    return call("center_crop_pad", op.x, arrays.ints(op, 1), axes=op.attr("axes"))


@shape("DepthToSpace", "SpaceToDepth", domain=layout.DOMAIN)
def depth_space(op: Op, arrays: ArrayDialect) -> Code:
    name = "depth_to_space" if op.key == "DepthToSpace" else "space_to_depth"
    side_by_side = {"blocks_first": False} if op.attr("mode", "DCR") == "CRD" else {}
    channels = op.dim(0, 3)
    keywords = side_by_side | ({} if isinstance(channels, int) else {"channels": channels})
    return call(name, op.x, op.attr("blocksize"), op.dim(0, 1), op.dim(0, 2), **keywords)


# --- shapes and new arrays -----------------------------------------------------------------------------------------


def sizes_in_code(op: Op) -> Code:
    """``x.shape[1:]``: what a Shape gives, as a tuple."""
    start, end = op.attr("start"), op.attr("end")
    cut = "" if start in (0, None) and end is None else f"[{start or ''}:{'' if end is None else end}]"
    return code(f"{{}}.shape{cut}", op.x)


@shape("Identity")
def identity(op: Op, arrays: ArrayDialect) -> Code:
    return code("{}", op.x)


@shape("Size")
def size(op: Op, arrays: ArrayDialect) -> Code:
    count = product(op.sizes())
    return arrays.call("convert_to_tensor", count, dtype=arrays.dtype(op, ir.DataType.INT64))


def filling(op: Op) -> Any:
    """The number that a ConstantOfShape fills its output with."""
    attribute = op.node.attributes.get("value")
    return attribute.as_tensor().numpy().reshape(-1)[0] if attribute is not None else np.float32(0)


def constant_value(op: Op) -> Any:
    """What a Constant holds."""
    name, attribute = next(iter(op.node.attributes.items()))
    return attribute.as_tensor().numpy() if name == "value" else attribute.value


@shape("ConstantOfShape")
def constant_of_shape(op: Op, arrays: ArrayDialect) -> Code:
    value, target, dtype = filling(op), arrays.ints(op, 0), arrays.new_dtype(op)
    target = tuple(target) if isinstance(target, list) else target
    if value in (0, 1) and (dtype is None or arrays.usual is None):
        return arrays.call("zeros" if value == 0 else "ones", target, dtype=dtype)
    return arrays.call("full", target, value, dtype=arrays.dtype(op, op.out_dtype()))


@shape("Constant")
def constant(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("array", constant_value(op), dtype=arrays.dtype(op, op.out_dtype()))


@shape("Range")
def range_(op: Op, arrays: ArrayDialect) -> Code:
    start, limit, step = given = [arrays.number(op, i) for i in range(3)]
    if _is(step, 1):
        given = [limit] if _is(start, 0) else [start, limit]
    return arrays.call("arange", *given, dtype=arrays.dtype(op, op.out_dtype()))


def _is(number: Any, value: int) -> bool:
    return not isinstance(number, Code) and bool(np.asarray(number) == value)


@shape("EyeLike")
def eye_like(op: Op, arrays: ArrayDialect) -> Code:
    dtype = arrays.new_dtype(op)
    if op.attr("k"):  # of another diagonal, TensorFlow's backend makes another shape when columns are few
        return call("diagonal_of_ones", op.dim(0, 0), op.dim(0, 1), k=op.attr("k"), dtype=dtype)
    return arrays.call("eye", op.dim(0, 0), op.dim(0, 1), dtype=dtype)


@shape("Trilu")
def triangle(op: Op, arrays: ArrayDialect) -> Code:
    k, name = arrays.number(op, 1) if op.has(1) else 0, "triu" if op.attr("upper") else "tril"
    sizes = [d if isinstance(d, int) else 1 for d in (op.shape() or [1, 1])[-2:]]
    if isinstance(k, int) and min(sizes) > 0 and abs(k) <= min(sizes):
        return arrays.call(name, op.x, k=k or None)
    return call("triangle", op.x, k, upper=True if name == "triu" else None)
