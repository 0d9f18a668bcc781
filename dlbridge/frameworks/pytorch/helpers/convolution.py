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


def causal_conv(x, weight, bias=None, past=None, activation="none"):
    """Depthwise convolution (1-D) over the past and the present; also gives the state that the next call takes."""
    keep = weight.shape[-1] - 1
    if past is None:
        past = x.new_zeros(*x.shape[:-1], keep)
    joined = torch.cat([past, x], -1)
    y = F.conv1d(joined, weight, bias, groups=x.shape[1])
    y = F.silu(y) if activation in ("silu", "swish") else y
    return y, joined[..., joined.shape[-1] - keep :]
