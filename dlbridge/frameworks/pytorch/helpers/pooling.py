"""Helpers that pool with any padding."""

import torch
import torch.nn.functional as F


def window_pads(sizes, kernel, stride, pads, dilation, ceil_mode):
    """What to pad (or, where negative, crop) so that the windows just fit; and the padding without the surplus.

    pads are as F.pad takes them, or 'SAME_UPPER' or 'SAME_LOWER'.
    """
    fitted, declared = [], []
    for axis, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
        reach = (k - 1) * d + 1
        if isinstance(pads, str):
            count = -(-size // s)
            total = max((count - 1) * s + reach - size, 0)
            before = total // 2 if pads == "SAME_UPPER" else total - total // 2
            after = total - before
        else:
            before, after = pads[-2 * axis - 2 :][:2]
            room = size + before + after - reach
            count = (-(-room // s) if ceil_mode else room // s) + 1
            if ceil_mode and (count - 1) * s >= size + before:
                count -= 1
        needed = (count - 1) * s + reach - size - before
        fitted = [before, needed, *fitted]
        declared = [before, after, *declared]
    return fitted, declared


def max_pool(x, kernel, stride, pads, dilation=None, ceil_mode=False):
    """Max pooling with any padding, which is never the maximum."""
    dilation = dilation or (1,) * len(kernel)
    fitted, _ = window_pads(x.shape[2:], kernel, stride, pads, dilation, ceil_mode)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return function(F.pad(x, fitted, value=-float("inf")), kernel, stride, dilation=dilation)


def max_pool_with_indices(x, kernel, stride, pads, dilation=None, ceil_mode=False, column_major=False):
    """Max pooling, and where in the whole input each maximum is."""
    dilation = dilation or (1,) * len(kernel)
    fitted, _ = window_pads(x.shape[2:], kernel, stride, pads, dilation, ceil_mode)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    padded = F.pad(x, fitted, value=-float("inf"))
    y, at = function(padded, kernel, stride, dilation=dilation, return_indices=True)
    sizes, index = x.shape[2:], torch.zeros_like(at)
    places = []
    for axis in range(len(sizes) - 1, -1, -1):
        places.insert(0, at % padded.shape[2 + axis] - fitted[-2 * axis - 2])
        at = at // padded.shape[2 + axis]
    order = range(len(sizes) - 1, -1, -1) if column_major else range(len(sizes))
    for axis in order:
        index = index * sizes[axis] + places[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).view(*x.shape[:2], *[1] * len(sizes))
    return y, index + planes * sizes.numel()


def sum_pool(x, kernel, stride, dilation):
    """Sums over windows."""
    function = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    y = function(x.reshape(-1, 1, *x.shape[2:]), ones, stride=stride, dilation=dilation)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def average_pool(x, kernel, stride, pads, dilation=None, ceil_mode=False, count_include_pad=False):
    """Average pooling with any padding."""
    dilation = dilation or (1,) * len(kernel)
    fitted, declared = window_pads(x.shape[2:], kernel, stride, pads, dilation, ceil_mode)
    counted = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    if count_include_pad:
        counted = F.pad(counted, declared, value=1)
        counted = F.pad(counted, [f - d for f, d in zip(fitted, declared, strict=True)])
    else:
        counted = F.pad(counted, fitted)
    return sum_pool(F.pad(x, fitted), kernel, stride, dilation) / sum_pool(counted, kernel, stride, dilation)


def lp_pool(x, p, kernel, stride, pads, dilation=None, ceil_mode=False):
    """The p-norm of each window."""
    dilation = dilation or (1,) * len(kernel)
    fitted, _ = window_pads(x.shape[2:], kernel, stride, pads, dilation, ceil_mode)
    return sum_pool(F.pad(x.abs() ** p, fitted), kernel, stride, dilation) ** (1 / p)


def max_unpool(x, indices, kernel, stride, pads, output_shape=None):
    """Puts each element where it was the maximum; zeros elsewhere. Indices count through the whole unpooled tensor."""
    count = len(kernel)
    sizes = [(x.shape[2 + i] - 1) * stride[i] - pads[i] - pads[count + i] + kernel[i] for i in range(count)]
    shape = [*x.shape[:2], *sizes]
    places = shape[0] * shape[1]
    for size in sizes:
        places = places * size
    y = x.new_zeros(places).index_put((indices.flatten(),), x.flatten()).reshape(shape)
    if output_shape is None:
        return y
    more = [(new - old) for old, new in zip(shape, output_shape, strict=True)]
    return F.pad(y, [amount for m in reversed(more) for amount in (0, m)])
