"""Convolutions that no framework has as a layer: of integers, causal, deformable; and the inverse of taking windows."""

from __future__ import annotations

from typing import Any

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call
from dlbridge.source.windows import Pads, options, pads_of, window

convolution = Family()


def weight_sizes(op: Op, slot: int = 1) -> tuple[list[int], int]:
    """The shape of a convolution's weight, and along how many axes it convolves."""
    weight = op.shape(slot)
    if weight is None or not all(isinstance(d, int) for d in weight):
        op.refuse("the shape of its weight is not known")
    count = len(weight) - 2  # type: ignore[arg-type]
    if count not in (1, 2, 3):
        op.refuse(f"convolutions here are along 1 to 3 axes, not {count}")
    return weight, count  # type: ignore[return-value]


def sizes_of(op: Op, slot: int = 1) -> tuple[list[int], list[int], list[int], list[int]]:
    """The sizes of a convolution's weight and of its kernel, the strides and the dilations."""
    weight, _ = weight_sizes(op, slot)
    kernel = op.attr("kernel_shape") or weight[2:]
    return weight, kernel, *window(op, kernel)


def transposed(op: Op, strides: list[int], dilations: list[int], pads: Pads, extra: list[int]) -> Code:
    """A call of the helper that convolves transposed with any padding and groups; the bias is not in it."""
    groups = op.attr("group")
    keywords = {"groups": groups if groups != 1 else None, "extra": extra if any(extra) else None}
    return call("conv_transpose", op.x, op[1], tuple(strides), tuple(dilations), pads, **keywords)


@convolution("CausalConvWithState")
def causal_conv(op: Op, arrays: ArrayDialect) -> Code:
    weight_sizes(op)
    how = op.attr("activation")
    given = {name: op[i] for name, i in (("bias", 2), ("past", 3)) if op.has(i)}
    return call("causal_conv", op.x, op[1], **given, activation=how if how != "none" else None)


@convolution("ConvInteger")
def conv_integer(op: Op, arrays: ArrayDialect) -> Code:
    zeros = {name: op[i] for name, i in (("x_zero", 2), ("w_zero", 3)) if op.has(i)}
    return call("conv_integer", op[0], op[1], **zeros, **_of_integers(op, 1))


@convolution("QLinearConv")
def qlinear_conv(op: Op, arrays: ArrayDialect) -> Code:
    bias = {"bias": op[8]} if op.has(8) else {}
    dtype = arrays.dtype(op, op.out_dtype())
    return call("quantized_conv", *(op[i] for i in range(8)), dtype, **bias, **_of_integers(op, 3))


def _of_integers(op: Op, slot: int) -> dict[str, Any]:
    """The keywords of a convolution of integers, whose weight is in a slot."""
    _, kernel, strides, dilations = sizes_of(op, slot)
    pads, group = pads_of(op, kernel), op.attr("group")
    if pads is None:
        op.refuse("this padding with strides needs a size that is known")
    return options(strides=(strides, 1), dilation_rate=(dilations, 1)) | {
        "pads": [(0, 0), (0, 0), *pads] if any(p != (0, 0) for p in pads) else None,  # type: ignore[union-attr,misc]
        "groups": group if group != 1 else None,
    }


@convolution("DeformConv")
def deform_conv(op: Op, arrays: ArrayDialect) -> Code:
    _, count = weight_sizes(op)
    if count != 2:
        op.refuse(f"it deforms along {count} axes; 2 can be written")
    slots = {"bias": 3, "mask": 4}
    keywords: dict[str, Any] = {name: op[i] for name, i in slots.items() if op.has(i)}
    pads = tuple(op.attr("pads") or ())
    windows = (
        ("stride", tuple(op.attr("strides") or ()), 1),
        ("pads", pads, 0),
        ("dilation", tuple(op.attr("dilations") or ()), 1),
    )
    keywords |= {name: given for name, given, usual in windows if any(g != usual for g in given)}
    groups = (("groups", op.attr("group")), ("offset_groups", op.attr("offset_group")))
    keywords |= {name: count for name, count in groups if count != 1}
    return call("deform_conv", op.x, op[1], op[2], **keywords)


@convolution("Col2Im")
def col2im(op: Op, arrays: ArrayDialect) -> Code:
    size, kernel = arrays.ints(op, 1), arrays.ints(op, 2)
    usual = {"strides": 1, "pads": 0, "dilations": 1}
    keywords = {name: list(op.attr(name)) for name, n in usual.items() if any(i != n for i in op.attr(name) or ())}
    return call("col2im", op.x, size, kernel, **keywords)
