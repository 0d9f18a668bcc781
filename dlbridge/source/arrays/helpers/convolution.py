"""Convolutions that Keras has no layer for."""

import math

from dlbridge.source.arrays import ops


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
    channels, (h, w) = x.shape[1], ops.shape(x)[2:]
    (oh, ow), width = ops.shape(offset)[2:], weight.shape[3]
    taps = weight.shape[2] * width
    offset = ops.reshape(offset, (-1, taps, 2, oh, ow))
    tap = ops.reshape(ops.places(taps, x), (-1, 1, 1))
    rows = ops.reshape(ops.places(oh, x), (-1, 1)) * stride[0] - pads[0] + tap // width * dilation[0]
    columns = ops.places(ow, x) * stride[1] - pads[1] + tap % width * dilation[1]
    rows, columns = ops.cast(rows, x.dtype) + offset[:, :, 0], ops.cast(columns, x.dtype) + offset[:, :, 1]
    values = bilinear(ops.reshape(x, (-1, channels // offset_groups, h, w)), rows, columns)
    if mask is not None:
        values = values * ops.reshape(mask, (-1, 1, taps, oh, ow))
    values = ops.reshape(values, (-1, groups, channels // groups * taps, oh * ow))
    kernel = ops.reshape(weight, (groups, -1, channels // groups * taps))
    y = ops.reshape(ops.matmul(kernel, values), (-1, weight.shape[0], oh, ow))
    return y if bias is None else ops.reshape(bias, (-1, 1, 1)) + y


def bilinear(x, rows, columns):
    """x (n, c, h, w) read between its pixels at points (n, ...); beyond the border it is 0."""
    channels, h, w = ops.shape(x)[1:]
    pixels, total = ops.reshape(x, (-1, channels, h * w)), 0
    top, left = ops.floor(rows), ops.floor(columns)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - ops.abs(rows - row)) * (1 - ops.abs(columns - column))
        r, c = ops.as_index(row), ops.as_index(column)
        inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
        at = ops.clip(r, 0, h - 1) * w + ops.clip(c, 0, w - 1)
        values = ops.take_along_axis(pixels, ops.reshape(at, (-1, 1, math.prod(ops.shape(at)[1:]))), axis=2)
        values = ops.reshape(values, (-1, channels, *ops.shape(rows)[1:]))
        total = total + values * ops.expand_dims(weight * ops.cast(inside, x.dtype), 1)
    return total


def col2im(x, size, kernel, strides=None, pads=None, dilations=None):
    """Adds up blocks (batch, channels * block, blocks) into an image: the inverse of taking windows."""
    count = len(size)
    strides, dilations, pads = strides or [1] * count, dilations or [1] * count, pads or [0] * 2 * count
    full = [size[i] + pads[i] + pads[count + i] for i in range(count)]
    steps = [(full[i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(count)]
    at = ops.places(1, x)
    for i in range(count):
        taps = ops.reshape(ops.places(kernel[i], x) * dilations[i], (-1, 1))
        shape = [1] * (2 * count)
        shape[i], shape[count + i] = kernel[i], steps[i]
        at = at * full[i] + ops.reshape(taps + ops.places(steps[i], x) * strides[i], shape)
    at, channels = ops.reshape(at, (-1,)), x.shape[1] // math.prod(kernel)
    planes = ops.transpose(ops.reshape(x, (-1, math.prod(kernel) * math.prod(steps))))
    total = ops.segment_sum(planes, at, num_segments=math.prod(full))
    batch = -1 if x.shape[0] is None else x.shape[0]  # a batch of 1 may be squeezed
    image = ops.reshape(ops.transpose(total), (batch, channels, *full))
    if not any(pads):
        return image
    return image[(..., *(slice(pads[i], full[i] - pads[count + i]) for i in range(count)))]
