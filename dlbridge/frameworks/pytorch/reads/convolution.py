"""Convolutions, and the ops that cut tensors into windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import sympy

from dlbridge.frameworks.pytorch.fx.tensors import quotient, rank, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads


def each(value: Any, count: int) -> list[int]:
    """Expand an argument that is one number for all axes, or one per axis."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


@reads("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(
    op: Op,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> ir.Value:
    return convolution(op, x, weight, bias, stride, padding, dilation, False, 0, groups)


@reads("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(op: Op, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None, *how: Any) -> ir.Value:
    """``how``: stride, padding, output padding, groups and dilation, as far as they are given."""
    stride, padding, output_padding, groups, dilation = (*how, *(1, 0, 0, 1, 1)[len(how) :])
    return convolution(op, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


def batched(op: Op, x: ir.Value, count: int, function: Any) -> ir.Value:
    """Apply a function of (batch, channels, ...) to a tensor that may have no batch axis."""
    if rank(x) == count + 2:
        return function(x)
    return op.squeeze(function(op.unsqueeze(x, [0])), [0])


@reads("aten.convolution", "aten._convolution")
def convolution(
    op: Op,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *flags: Any,
) -> ir.Value:
    count = rank(weight) - 2
    kernel, dilations = sizes(weight)[2:], each(dilation, count)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = each(0 if padding == "valid" else padding, count) * 2
    attributes = {
        "kernel_shape": kernel,
        "strides": each(stride, count),
        "pads": pads,
        "dilations": dilations,
        "group": groups,
    }
    if transposed:
        attributes["output_padding"] = each(output_padding, count)
    if not isinstance(groups, int):
        made = _filters_of_each_group(op, x, weight, transposed, attributes)
        return made if bias is None else made + op.reshape(bias, [op.sizes[1], *[1] * count])
    kind = "ConvTranspose" if transposed else "Conv"
    return batched(op, x, count, lambda value: op(kind, value, weight, bias, **attributes))


def _filters_of_each_group(
    op: Op, x: ir.Value, weight: ir.Value, transposed: bool, attributes: dict[str, Any]
) -> ir.Value:
    """A convolution with as many groups as the batch has samples: each sample has filters of its own.

    Conv has a fixed number of groups. So a product of matrices does what the filters do, and a Conv of each channel
    alone, with ones for weights, cuts the windows before it (ConvTranspose adds them up behind it).
    """
    groups, kernel, count = attributes["group"], attributes["kernel_shape"], len(attributes["kernel_shape"])
    if rank(x) != count + 2:
        op.refuse("as many groups as a size that is not known, without a batch axis")
    batch, spatial, made_spatial = sizes(x)[0], sizes(x)[2:], op.sizes[2:]
    channels, made_channels = (sympy.cancel(size / groups) for size in (sizes(x)[1], op.sizes[1]))
    if not (channels.is_Integer and made_channels.is_Integer):
        op.refuse("groups whose number of channels is not known")
    channels, made_channels = int(channels), int(made_channels)
    inner = made_channels if transposed else channels
    windows, positions = inner * math.prod(kernel), math.prod(spatial if transposed else made_spatial)
    one_each = np.eye(math.prod(kernel)).reshape(-1, 1, *kernel)
    ones = op.constant(np.tile(one_each, (inner, *[1] * (count + 1))), x.dtype)
    moved = {**attributes, "group": inner}
    if transposed:
        columns = op.reshape(x, [batch, groups, channels, positions])
        filters = op.transpose(op.reshape(weight, [groups, channels, windows]), [0, 2, 1])
        cut = op.reshape(op("MatMul", filters, columns), [batch * groups, windows, *spatial])
        return op.reshape(op("ConvTranspose", cut, ones, **moved), op.sizes)
    cut = op("Conv", op.reshape(x, [batch * groups, channels, *spatial]), ones, **moved)
    columns = op.reshape(cut, [batch, groups, windows, positions])
    filters = op.reshape(weight, [groups, made_channels, windows])
    return op.reshape(op("MatMul", filters, columns), op.sizes)


@reads("torchvision.deform_conv2d")
def deform_conv(
    op: Op,
    x: ir.Value,
    weight: ir.Value,
    offset: ir.Value,
    mask: ir.Value,
    bias: ir.Value,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> ir.Value:
    return op(
        "DeformConv",
        x,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        kernel_shape=sizes(weight)[2:],
        strides=[stride_h, stride_w],
        pads=[pad_h, pad_w, pad_h, pad_w],
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
    )


@reads("aten.unfold")
def unfold(op: Op, x: ir.Value, dimension: int, size: int, step: int) -> ir.Value:
    """Sliding windows along one axis, as a further last axis."""
    axis = dimension % rank(x)
    order = [i for i in range(rank(x) + 1) if i != axis + 1]
    return op.transpose(_windows(op, x, axis, size, step), [*order, axis + 1])


@reads("aten.im2col")
def im2col(op: Op, x: ir.Value, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> ir.Value:
    """``nn.Unfold``: (N, C, H, W) to (N, C * kh * kw, L), by picking rows, then columns."""
    kernel, dilation, pads, strides = (each(v, 2) for v in (kernel_size, dilation, padding, stride))
    if any(pads):
        padded = [size + 2 * pad for size, pad in zip(sizes(x)[2:], pads, strict=True)]
        x = with_sizes(op("Pad", x, [0, 0, *pads, 0, 0, *pads]), [*sizes(x)[:2], *padded])
    for axis, *how in zip((2, 4), kernel, strides, dilation, strict=True):
        x = _windows(op, x, axis, *how)
    return op.reshape(op.transpose(x, [0, 1, 3, 5, 2, 4]), op.sizes)  # of (N, C, rows, kh, columns, kw)


def _windows(op: Op, x: ir.Value, axis: int, size: int, step: int, dilation: int = 1) -> ir.Value:
    """An axis as two: the windows along it, and the places in a window."""
    before, length, after = sizes(x)[:axis], sizes(x)[axis], sizes(x)[axis + 1 :]
    end = length - dilation * (size - 1)
    starts = op("Range", op.number(0, ir.DataType.INT64), end, step)
    places = op("Unsqueeze", starts, [1]) + dilation * np.arange(size)
    return with_sizes(op("Gather", x, places, axis=axis), [*before, quotient(end - 1, step) + 1, size, *after])


@reads("aten.col2im")
def col2im(
    op: Op, x: ir.Value, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> ir.Value:
    """``nn.Fold``: (N, C * kh * kw, L) to (N, C, H, W), summed where windows overlap."""
    kernel, dilation, padding, stride = (each(v, 2) for v in (kernel_size, dilation, padding, stride))
    pads = [*padding, *padding]
    return op("Col2Im", x, list(output_size), kernel, dilations=dilation, pads=pads, strides=stride)
