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
