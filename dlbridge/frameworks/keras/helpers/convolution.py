"""Convolutions that Keras has no layer for."""

from keras import ops


def conv_transpose(x, kernel, strides, dilations, pads, groups=1, extra=None):
    """A transposed convolution of x (batch, ..., channels) by a kernel (in, out / groups, ...), cropped by ``pads``.

    It is the convolution with the kernel turned round of x with zeros between its elements. ``extra`` elements are
    added behind.
    """
    count, extra = len(strides), extra or [0] * len(strides)
    channels, each, *size = kernel.shape
    for axis, stride in enumerate(strides, 1):
        x = spread(x, axis, stride)
    widths = []
    for k, dilation, (before, after), more in zip(size, dilations, pads, extra, strict=True):
        span = (k - 1) * dilation
        widths.append((span - before, span - after + more))
    x = ops.pad(x, [(0, 0), *((max(a, 0), max(b, 0)) for a, b in widths), (0, 0)])
    x = x[(slice(None), *(slice(max(-a, 0), -max(-b, 0) or None) for a, b in widths))]
    kernel = ops.flip(kernel, axis=tuple(range(2, 2 + count)))
    kernel = ops.reshape(kernel, (groups, channels // groups, each, *size))
    kernel = ops.transpose(kernel, (*range(3, 3 + count), 1, 0, 2))
    kernel = ops.reshape(kernel, (*size, channels // groups, groups * each))
    return ops.conv(x, kernel, padding="valid", dilation_rate=tuple(dilations))


def spread(x, axis, stride):
    """x with stride - 1 zeros between its elements along an axis."""
    if stride == 1:
        return x
    parts = ops.stack([x, *[ops.zeros_like(x)] * (stride - 1)], axis=axis + 1)
    shape = list(ops.shape(x))
    shape[axis] = shape[axis] * stride
    cut = [slice(None)] * axis + [slice(None, 1 - stride)]
    return ops.reshape(parts, shape)[tuple(cut)]


def grouped_conv(x, kernel, groups, **options):
    """A convolution of x (batch, ..., channels) in groups by a kernel (..., in / groups, out)."""
    parts = zip(ops.split(x, groups, axis=-1), ops.split(kernel, groups, axis=-1), strict=True)
    return ops.concatenate([ops.conv(part, own, **options) for part, own in parts], axis=-1)


def causal_conv(x, weight, bias=None, past=None, activation="none"):
    """Depthwise convolution (1-D) over the past and the present; also gives the state that the next call takes."""
    keep = weight.shape[-1] - 1
    past = ops.repeat(ops.zeros_like(x[..., :1]), keep, axis=-1) if past is None else past
    joined = ops.concatenate([past, x], axis=-1)
    kernel = ops.transpose(weight, (2, 0, 1))
    y = ops.depthwise_conv(ops.transpose(joined, (0, 2, 1)), kernel, padding="valid", data_format="channels_last")
    y = ops.transpose(y if bias is None else bias + y, (0, 2, 1))
    y = ops.silu(y) if activation in ("silu", "swish") else y
    return y, joined[..., joined.shape[-1] - keep :]


def conv_integer(x, w, x_zero=None, w_zero=None, strides=1, pads=None, dilation_rate=1, groups=1):
    """Convolution of integers (batch, channels, ...), which float64 computes exactly; padding is the zero point."""
    rank = len(w.shape)
    x = ops.cast(x, "float64") if x_zero is None else ops.cast(x, "float64") - ops.cast(x_zero, "float64")
    w = ops.cast(w, "float64")
    if w_zero is not None:
        w = w - ops.reshape(ops.cast(w_zero, "float64"), (-1, *[1] * (rank - 1)))
    x = ops.transpose(x if pads is None else ops.pad(x, pads), (0, *range(2, rank), 1))
    kernel = ops.transpose(w, (*range(2, rank), 1, 0))
    options = {"strides": strides, "padding": "valid", "dilation_rate": dilation_rate, "data_format": "channels_last"}
    y = ops.conv(x, kernel, **options) if groups == 1 else grouped_conv(x, kernel, groups, **options)
    return ops.cast(ops.transpose(y, (0, rank - 1, *range(1, rank - 1))), "int32")
