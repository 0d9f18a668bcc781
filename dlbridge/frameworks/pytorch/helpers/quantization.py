"""Helpers of quantisation."""

import torch
import torch.nn.functional as F


def in_range(y, zero_point, dtype):
    """Whole numbers plus a zero point, cut to what an integer dtype holds."""
    y = y.to(torch.float64) if zero_point is None else y.to(torch.float64) + zero_point.to(torch.float64)
    return y.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


def conv_integer(x, w, x_zero=None, w_zero=None, strides=1, pads=None, dilation_rate=1, groups=1):
    """Convolution of integers, which float64 computes exactly; padding is the zero point."""
    x = x.to(torch.float64) if x_zero is None else x.to(torch.float64) - x_zero.to(torch.float64)
    w = w.to(torch.float64)
    if w_zero is not None:
        w = w - w_zero.to(torch.float64).reshape(-1, *[1] * (w.dim() - 1))
    function = (F.conv1d, F.conv2d, F.conv3d)[w.dim() - 3]
    x = x if pads is None else F.pad(x, [n for pair in reversed(pads) for n in pair])
    return function(x, w, stride=strides, dilation=dilation_rate, groups=groups).to(torch.int32)
