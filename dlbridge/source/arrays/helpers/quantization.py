"""Helpers of quantisation."""

from dlbridge.source.arrays import ops
from dlbridge.source.arrays.helpers.convolution import conv_integer
from dlbridge.source.arrays.helpers.elementwise import float8_cast


def along_axis(values, x, axis=None, block_size=None):
    """Scales or zero points in a shape that broadcasts to x."""
    if axis is None:
        return ops.reshape(values, ())
    if block_size:
        values = ops.moveaxis(ops.repeat(values, block_size, axis=axis), axis, 0)
        return ops.moveaxis(values[: x.shape[axis], ...], 0, axis)
    return ops.reshape(values, (-1, *[1] * (len(x.shape) - 1 - axis)))


def quantize(x, scale, dtype, zero_point=None, axis=None, block_size=None, precision=None, saturate=True):
    """x / scale, rounded to the nearest (ties to even), plus the zero point, in the range of the dtype."""
    scale = along_axis(scale, x, axis, block_size)
    precision = precision or ops.standardize_dtype(x.dtype)
    y = ops.cast(x, precision) / ops.cast(scale, precision)
    if ops.is_float(dtype):
        return float8_cast(y, dtype, saturate)
    return in_range(ops.round(y), None if zero_point is None else along_axis(zero_point, x, axis, block_size), dtype)


def in_range(y, zero_point, dtype):
    """Whole numbers plus a zero point, cut to what an integer dtype holds."""
    signed, bits = not dtype.startswith("u"), int(dtype.rpartition("int")[2])
    low = -(2 ** (bits - 1)) if signed else 0
    y = ops.cast(y, "float64")
    y = y if zero_point is None else y + ops.cast(zero_point, "float64")
    return ops.cast(ops.clip(y, low, low + 2**bits - 1), dtype)


def fake_quantize(x, scale, zero_point, low, high):
    """x as its quantised numbers have it; the gradient is that of x where they are in their range, else 0."""
    zero_point = ops.cast(zero_point, x.dtype)
    steps = ops.broadcast_add(ops.round(ops.multiply(x, 1 / scale)), zero_point)
    y = (ops.clip(steps, low, high) - zero_point) * scale
    inside = ops.logical_and(steps >= low, steps <= high)
    x = ops.where(inside, x, ops.zeros_like(x))
    return ops.stop_gradient(y) + (x - ops.stop_gradient(x))


def dequantize(x, scale, dtype, zero_point=None, axis=None, block_size=None):
    """(x - zero point) * scale."""
    scale, y = along_axis(scale, x, axis, block_size), ops.cast(x, "float32")
    if zero_point is not None:
        y = y - ops.cast(along_axis(zero_point, x, axis, block_size), "float32")
    return ops.cast(y * ops.cast(scale, "float32"), dtype)


def dynamic_quantize(x):
    """x as uint8, with the scale and zero point that its range (with 0 in it) asks for."""
    low, high = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
    scale = ops.where(ops.equal(high, low), ops.ones_like(low), (high - low) / 255)
    zero = ops.round(ops.clip(-low / scale, 0, 255))
    return ops.cast(ops.clip(ops.round(x / scale) + zero, 0, 255), "uint8"), scale, ops.cast(zero, "uint8")


def matmul_integer(a, b, a_zero=None, b_zero=None):
    """Product of int32 matrices; a zero point for each row of a or column of b, or one for all."""
    a, b = ops.cast(a, "int32"), ops.cast(b, "int32")
    if a_zero is not None:
        a_zero = ops.cast(a_zero, "int32")
        a = a - (ops.expand_dims(a_zero, -1) if len(a_zero.shape) == 1 else a_zero)
    return ops.matmul(a, b if b_zero is None else b - ops.cast(b_zero, "int32"))


def quantized_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, dtype):
    """Product of quantised matrices, quantised."""
    y = ops.cast(matmul_integer(a, b, a_zero, b_zero), "float32")
    rows = ops.expand_dims(a_scale, -1) if len(a_scale.shape) == 1 else a_scale
    scale = ops.cast(rows, "float32") * ops.cast(b_scale, "float32") / ops.cast(y_scale, "float32")
    return in_range(ops.round(y * scale), y_zero, dtype)


def quantized_conv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, dtype, bias=None, **options):
    """Convolution of quantised numbers (batch, channels, ...), quantised; the bias is in int32."""
    y = conv_integer(x, w, x_zero, w_zero, **options)
    channel = (-1, *[1] * (len(w.shape) - 2))
    y = y if bias is None else ops.reshape(bias, channel) + y
    scale = ops.reshape(x_scale * w_scale / y_scale, channel)
    return in_range(ops.round(ops.cast(y, "float32") * scale), y_zero, dtype)
