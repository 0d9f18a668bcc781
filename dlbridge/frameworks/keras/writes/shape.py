"""Ops that rearrange, cut and join tensors."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import broadcasts_far, in_dtype, ints, rules
from dlbridge.frameworks.keras.writes import heads
from dlbridge.frameworks.keras.writes.arrays import KERAS
from dlbridge.frameworks.keras.writes.convolution import zero_padding
from dlbridge.passes import stacked
from dlbridge.source.arithmetic import Element
from dlbridge.source.arrays import shape as arrays
from dlbridge.source.arrays.shape import Padding, joined, own_sizes, pad_at_run_time, product
from dlbridge.source.op import Dim, Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code


def _is_static(dims: list[Dim]) -> bool:
    return all(isinstance(d, int) for d in dims)


def reshape_to(op: Op, target: list[Element]) -> Emit | Code:
    """``x`` in a shape whose sizes are numbers or code; said without sizes where that is possible."""
    have, want = op.shape(), op.out_shape()
    if not have or not want:
        return call("ops.reshape", op.x, tuple(target))
    numbers = tuple(d if isinstance(d, int) else -1 for d in want)
    is_said_by_numbers = numbers.count(-1) <= 1 and 0 not in numbers
    plain = call("ops.reshape", op.x, numbers if is_said_by_numbers else tuple(target))
    layer = _reshaping_layer(have, numbers[1:]) if want[0] == have[0] and not isinstance(want[0], int) else None
    return plain if layer is None else Emit(plain, module=Layer(layer))


def _reshaping_layer(have: list[Dim], behind: tuple[int, ...]) -> Code | None:
    """The layer that gives the axes behind the batch these sizes, of which one may be -1; None where none does."""
    if behind.count(-1) > 1 or 0 in behind:
        return None
    before = have[1:]
    if len(behind) == 1 and _is_static(before) and behind[0] in (-1, math.prod(before)):  # type: ignore[arg-type]
        return call("layers.Flatten")
    return code("layers.Reshape({})", Literal(behind, "target_shape"))


@rules("Reshape")
def reshape(op: Op) -> Emit | Code:
    apart = heads.merged(op)
    if apart is not None:
        return call("merge_heads", apart)
    target = op.ints(1)
    if target is None:
        return call("reshape", op.x, ints(op, 1), allow_zero=True if op.attr("allowzero") else None)
    return reshape_to(op, own_sizes(op, target))


@rules("Flatten")
def flatten(op: Op) -> Emit | Code:
    axis = op.axis()
    if axis == 1:
        return Emit(code("ops.reshape({}, ({}, -1))", op.x, op.dim(0, 0)), module=Layer(call("layers.Flatten")))
    dims = op.sizes()
    head, tail = product(dims[:axis]), product(dims[axis:])
    if isinstance(head, int) and isinstance(tail, int):
        return call("ops.reshape", op.x, (head, tail))
    return call("ops.reshape", op.x, (head, -1) if head != 0 and not isinstance(tail, int) else (-1, tail))


@rules("Transpose")
def transpose(op: Op) -> Emit | Code:
    split = heads.split(op)
    if split is not None:
        return call("split_heads", *split)
    order = op.attr("perm") or list(reversed(range(op.rank())))
    plain = call("ops.transpose", op.x, tuple(order))
    if order == sorted(order):
        return code("{}", op.x)
    if order[0] == 0 and not isinstance((op.shape() or [0])[0], int):
        return Emit(plain, module=Layer(code("layers.Permute({})", Literal(tuple(order[1:]), "dims"))))
    return plain


@rules("Expand")
def expand(op: Op) -> Emit | Code:
    target = op.ints(1)
    if target is not None and broadcasts_far(op.shape(), op.out_shape()):
        return call("expand", op.x, tuple(target))
    return arrays.expand(op, KERAS)


@rules("Tile")
def tile(op: Op) -> Code:
    if op.dtype() == ir.DataType.UINT16:  # TensorFlow's backend lacks it
        return in_dtype(op, call("ops.tile", call("ops.cast", op.x, "int32"), ints(op, 1)))
    return call("ops.tile", op.x, ints(op, 1))


#: The most axes of a tensor that TensorFlow pads with a constant, and with the tensor's own elements.
_MOST_PADDED, _MOST_MIRRORED = 6, 5


@rules("Pad")
def pad(op: Op) -> Emit | Code:
    asked = Padding.of(op, KERAS)
    if asked.pairs is None:
        return pad_at_run_time(op, KERAS, asked)
    if asked.adds_nothing:
        return code("{}", op.x)
    if asked.mode == "constant" and op.rank() > _MOST_PADDED:
        op.refuse(f"TensorFlow pads tensors of at most {_MOST_PADDED} axes")
    mode = _pad_mode(op, asked, asked.pairs)
    if mode is None:
        chosen = [axis for axis, pair in enumerate(asked.pairs) if pair != (0, 0)]
        amounts = [asked.pairs[axis][side] for side in (0, 1) for axis in chosen]
        return call("pad", op.x, amounts, **asked.options, axes=chosen)
    keywords: dict[str, Any] = {} if mode == "constant" else {"mode": mode}
    keywords |= {} if asked.fill is None else {"constant_values": asked.fill}
    padded = call("ops.pad", op.x, asked.pairs, **keywords)
    return Emit(padded, module=None if keywords else _zero_padding(asked.pairs))


def _zero_padding(pairs: list[Any]) -> Layer | None:
    """The layer that pads all axes but the batch and the channels, the last one, with zeros."""
    if len(pairs) not in (3, 4, 5) or pairs[0] != (0, 0) or pairs[-1] != (0, 0):
        return None
    return Layer(zero_padding(pairs[1:-1]))


def _pad_mode(op: Op, asked: Padding, pairs: list[Any]) -> str | None:
    """What Keras calls the mode; None if it does not do the same for these amounts."""
    if not asked.only_adds:
        return None
    if asked.mode == "constant":
        return "constant"
    if op.rank() > _MOST_MIRRORED:
        return None
    if asked.mode == "edge":
        return "symmetric" if all(amount <= 1 for pair in pairs for amount in pair) else None
    if asked.mode == "reflect":
        sizes = op.shape() or []
        fits = [pair == (0, 0) or (isinstance(d, int) and max(pair) < d) for pair, d in zip(pairs, sizes, strict=True)]
        return "reflect" if all(fits) else None
    return None


@rules("Stack", domain=stacked.DOMAIN)
def stack(op: Op) -> Code:
    """TensorFlow stacks tensors, and no variables, which is what a weight that no layer holds is read as."""
    made = call("ops.stack", joined(op), axis=op.attr("axis") or None)
    return made.substituted(lambda value: call("ops.copy", value) if value.is_initializer() else None)


@rules("Shape")
def shape(op: Op) -> Code:
    if op.shape() is None:
        cut = f"[{op.attr('start') or ''}:{op.attr('end', '')}]" if op.attr("start") or op.attr("end") else ""
        return code(f'ops.convert_to_tensor(ops.shape({{}}){cut}, dtype="int64")', op.x)
    items = op.sizes()[slice(op.attr("start"), op.attr("end", op.rank()))]
    return call("ops.convert_to_tensor", items, dtype="int64")
