"""Helpers of quantisation."""

import torch
import torch.nn.functional as F


def along_axis(values, x, axis=None, block_size=None):
    """Scales or zero points in a shape that broadcasts to x."""
    if values is None or values.numel() == 1:
        return None if values is None else values.reshape(())
    if block_size:
        return values.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    return values.view(-1, *[1] * (x.dim() - 1 - axis))


def quantize(x, scale, dtype, zero_point=None, axis=None, block_size=None, precision=None, saturate=True):
    """x / scale, rounded to the nearest (ties to even), plus the zero point, in the range of the dtype."""
    scale = along_axis(scale, x, axis, block_size)
    y = x / scale if precision is None else x.to(precision) / scale.to(precision)
    if dtype.is_floating_point:
        limit = torch.finfo(dtype).max
        return (y.to(torch.float32).clamp(-limit, limit) if saturate else y).to(dtype)
    zero = along_axis(zero_point, x, axis, block_size)
    y = y.round() if zero is None else y.round().to(torch.float64) + zero.to(torch.float64)
    return y.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


def dequantize(x, scale, dtype, zero_point=None, axis=None, block_size=None):
    """(x - zero point) * scale."""
    scale, zero = along_axis(scale, x, axis, block_size), along_axis(zero_point, x, axis, block_size)
    y = x.to(torch.float32) if zero is None else x.to(torch.float32) - zero.to(torch.float32)
    return (y * scale.to(torch.float32)).to(dtype)


def dynamic_quantize(x):
    """x as uint8, with the scale and zero point that its range (with 0 in it) asks for."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = torch.where(high == low, torch.ones_like(low), high - low) / 255
    zero = (-low / scale).clamp(0, 255).round()
    return ((x / scale).round() + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def matmul_integer(a, b, a_zero=None, b_zero=None):
    """Product of int32 matrices; a zero point for each row of a or column of b, or one for all."""
    a, b = a.to(torch.int32), b.to(torch.int32)
    if a_zero is not None:
        a = a - (
            a_zero.to(torch.int32).unsqueeze(-1) if a_zero.dim() == 1 and len(a_zero) > 1 else a_zero.to(torch.int32)
        )
    return a @ (b if b_zero is None else b - b_zero.to(torch.int32))


def quantized_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    """Product of quantised matrices, quantised."""
    y = matmul_integer(a, b, a_zero, b_zero)
    rows = a_scale.unsqueeze(-1) if a_scale.dim() == 1 and len(a_scale) > 1 else a_scale
    y = (y * (rows * b_scale / y_scale)).round() + y_zero.to(torch.float32)
    return y.clamp(torch.iinfo(y_zero.dtype).min, torch.iinfo(y_zero.dtype).max).to(y_zero.dtype)


def conv_integer(x, w, x_zero=None, w_zero=None, stride=1, pads=None, dilation=1, groups=1):
    """Convolution of integers, which float64 computes exactly; padding is the zero point."""
    x = x.to(torch.float64) if x_zero is None else x.to(torch.float64) - x_zero.to(torch.float64)
    w = w.to(torch.float64)
    if w_zero is not None:
        w = w - w_zero.to(torch.float64).reshape(-1, *[1] * (w.dim() - 1))
    function = (F.conv1d, F.conv2d, F.conv3d)[w.dim() - 3]
    x = x if pads is None else F.pad(x, pads)
    return function(x, w, stride=stride, dilation=dilation, groups=groups).to(torch.int32)


def quantized_conv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias=None, **options):
    """Convolution of quantised numbers, quantised; the bias is in int32."""
    y = conv_integer(x, w, x_zero, w_zero, **options)
    channel = [-1, *[1] * (w.dim() - 2)]
    y = y if bias is None else y + bias.view(channel)
    scale = w_scale.view(channel) if w_scale.numel() > 1 else w_scale
    y = (y * (x_scale * scale / y_scale)).round() + y_zero.to(torch.float32)
    return y.clamp(torch.iinfo(y_zero.dtype).min, torch.iinfo(y_zero.dtype).max).to(y_zero.dtype)
