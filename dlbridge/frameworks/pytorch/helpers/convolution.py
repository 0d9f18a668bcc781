"""Helpers of convolutions."""

import torch
import torch.nn.functional as F


def pad_same(x, kernel, stride, dilation, lower=False):
    """Pads with zeros so that a convolution gives ceil(size / stride); the odd one at the end (or, lower, in front)."""
    pads = []
    for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads = [(total + lower) // 2, total - (total + lower) // 2, *pads]
    return F.pad(x, pads)


def conv_transpose(
    x, weight, bias, stride, pads, groups=1, output_padding=None, dilation=None, output_shape=None, upper=False
):
    """Transposed convolution with any padding (last axis first, as F.pad has it), or with a given output shape."""
    count = weight.dim() - 2
    dilation, extra = dilation or (1,) * count, output_padding or (0,) * count
    if pads is None:
        pads = []
        for axis, size in enumerate(output_shape):
            full = stride[axis] * (x.shape[2 + axis] - 1) + dilation[axis] * (weight.shape[2 + axis] - 1) + 1
            total = full + extra[axis] - size
            pads = [(total + (not upper)) // 2, total - (total + (not upper)) // 2, *pads]
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[count - 1]
    y = function(x, weight, stride=stride, groups=groups, dilation=dilation)
    crop = [-p for p in pads]
    for axis in range(count):
        crop[2 * (count - 1 - axis) + 1] += extra[axis]
    y = F.pad(y, crop)
    return y if bias is None else y + bias.reshape(-1, *[1] * count)


def bilinear(x, rows, columns):
    """x (n, c, h, w) read between its pixels at points (n, ...); beyond the border it is 0."""
    n, c, h, w = x.shape
    pixels, total = x.flatten(2), 0
    top, left = rows.floor(), columns.floor()
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        at = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long().reshape(n, 1, -1).expand(-1, c, -1)
        values = pixels.gather(2, at).reshape(n, c, *rows.shape[1:])
        total = total + values * (weight * inside).unsqueeze(1)
    return total


def deform_conv(
    x,
    weight,
    offset,
    bias=None,
    mask=None,
    stride=(1, 1),
    pads=(0, 0, 0, 0),
    dilation=(1, 1),
    groups=1,
    offset_groups=1,
):
    """Convolution (2-D) whose taps are moved by offsets, read bilinearly, and weighed by a mask; outside is 0."""
    n, c, h, w = x.shape
    taps, (oh, ow) = weight.shape[2] * weight.shape[3], offset.shape[2:]
    offset = offset.reshape(n * offset_groups, taps, 2, oh, ow)
    tap = torch.arange(taps, device=x.device).view(-1, 1, 1)
    rows = torch.arange(oh, device=x.device).view(-1, 1) * stride[0] - pads[0] + tap // weight.shape[3] * dilation[0]
    columns = torch.arange(ow, device=x.device) * stride[1] - pads[1] + tap % weight.shape[3] * dilation[1]
    parts = x.reshape(n * offset_groups, c // offset_groups, h, w)
    values = bilinear(parts, rows + offset[:, :, 0], columns + offset[:, :, 1])
    if mask is not None:
        values = values * mask.reshape(n * offset_groups, 1, taps, oh, ow)
    values = values.reshape(n, groups, c // groups * taps, oh * ow)
    y = (weight.reshape(groups, -1, c // groups * taps) @ values).reshape(n, -1, oh, ow)
    return y if bias is None else y + bias.view(-1, 1, 1)


def causal_conv(x, weight, bias=None, past=None, activation="none"):
    """Depthwise convolution (1-D) over the past and the present; also gives the state that the next call takes."""
    keep = weight.shape[-1] - 1
    if past is None:
        past = x.new_zeros(*x.shape[:-1], keep)
    joined = torch.cat([past, x], -1)
    y = F.conv1d(joined, weight, bias, groups=x.shape[1])
    y = F.silu(y) if activation in ("silu", "swish") else y
    return y, joined[..., joined.shape[-1] - keep :]
