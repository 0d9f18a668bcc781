"""``keras.ops`` of neural networks: convolution, pooling, normalisation, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.convolution import many, transposed_window, window
from dlbridge.frameworks.keras.reads.linalg import norm_of
from dlbridge.frameworks.keras.reads.pooling import adaptive_pool
from dlbridge.frameworks.keras.reads.reduction import variance_of
from dlbridge.frameworks.keras.reads.reshaping import pad
from dlbridge.frameworks.keras.reads.signal import frames


@operation("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose")
def conv(site: CallSite, inputs: Any, kernel: Any, pointwise_kernel: Any = None) -> ir.Value:
    kind, (x, weight) = site.source, site.promoted(inputs, kernel)
    name, data_format = site.operation, site.data_format
    count = site.rank(x) - 2
    sizes = site.shape(weight)
    x = site.first(x, data_format)
    strides, dilations = many(kind.strides, count), many(kind.dilation_rate, count)
    if name == "ConvTranspose":
        extra = [None] * count if kind.output_padding is None else many(kind.output_padding, count)
        where = transposed_window(sizes[:count], strides, dilations, kind.padding, extra)
        return site.last(site.op("ConvTranspose", x, _turned(site, weight, count + 1, count), **where), data_format)
    where = window(sizes[:count], strides, dilations, kind.padding)
    if name == "Conv":
        group = site.shape(x)[1] // sizes[count]
        y = site.op("Conv", x, _turned(site, weight, count + 1, count), group=group if group > 1 else None, **where)
        return site.last(y, data_format)
    weight = site.op("Reshape", _turned(site, weight, count, count + 1), [-1, 1, *sizes[:count]])
    y = site.op("Conv", x, weight, group=sizes[count], **where)
    if pointwise_kernel is not None:
        (point,) = site.promoted(pointwise_kernel)
        y = site.op("Conv", y, _turned(site, point, count + 1, count), kernel_shape=[1] * count)
    return site.last(y, data_format)


def _turned(site: CallSite, weight: ir.Value, *front: int) -> ir.Value:
    return site.transpose(weight, [*front, *range(site.rank(weight) - 2)])


@operation("MaxPool", "AveragePool")
def pool(site: CallSite, inputs: Any) -> ir.Value:
    kind, x = site.source, site.tensor(inputs)
    data_format, count = site.data_format, site.rank(x) - 2
    size = many(kind.pool_size, count)
    strides = size if kind.strides is None else many(kind.strides, count)
    where = window(size, strides, [1] * count, kind.padding)
    return site.last(site.op(site.operation, site.first(x, data_format), **where), data_format)


@operation("AdaptiveAveragePool", "AdaptiveMaxPool")
def adaptive(site: CallSite, inputs: Any) -> ir.Value:
    kind, x = site.source, site.tensor(inputs)
    largest = site.operation == "AdaptiveMaxPool"
    return adaptive_pool(site, x, many(kind.output_size, site.rank(x) - 2), site.data_format, largest)


@operation("BatchNorm")
def batch_norm(site: CallSite, x: Any, mean: Any, variance: Any, offset: Any = None, scale: Any = None) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    shape = [1] * site.rank(x)
    shape[site.axis(kind.axis, len(shape))] = -1
    mean, variance, *rest = (
        None if v is None else site.op("Reshape", site.cast(site.tensor(v), x.dtype), shape)
        for v in (mean, variance, scale, offset)
    )
    factor = site.op("Reciprocal", site.op("Sqrt", variance + float(kind.epsilon)))
    y = (x - mean) * (factor if rest[0] is None else factor * rest[0])
    return y if rest[1] is None else y + rest[1]


def _scaled(site: CallSite, x: ir.Value, kind: Any, gamma: Any) -> ir.Value:
    """Divide by the standard deviation along some axes, without subtracting the mean."""
    (wide,) = site.promoted(x, to=ir.DataType.DOUBLE if x.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT)
    y = wide / site.op("Sqrt", variance_of(site, wide, kind.axis, True) + site.epsilon)
    if gamma is not None:
        kept = site.axes(x, kind.axis)
        sizes = [size if i in kept else 1 for i, size in enumerate(site.shape(x))]
        y = y * site.reshape(site.promoted(gamma, to=wide.dtype)[0], sizes)
    return site.cast(y, x.dtype)


@operation("LayerNorm", "RMSNorm")
def last_norm(site: CallSite, x: Any, gamma: Any = None, beta: Any = None, *, scale: Any = None) -> ir.Value:
    kind, x = site.source, site.tensor(x)
    rank = site.rank(x)
    if getattr(kind, "rms_scaling", False):
        return _scaled(site, x, kind, gamma)
    axes = site.axes(x, kind.axis)
    if axes != list(range(rank - len(axes), rank)):
        site.refuse("normalisation over axes that are not the last")
    shape = site.shape(x)[axes[0] :]
    if gamma is None:
        gamma = scale
    weight = np.ones(shape, x.dtype.numpy()) if gamma is None else site.promoted(gamma)[0]
    bias = [] if beta is None else [site.promoted(beta)[0]]
    op_type = "LayerNormalization" if site.operation == "LayerNorm" else "RMSNormalization"
    return site.op(op_type, x, weight, *bias, axis=axes[0] - rank, epsilon=site.epsilon)


@operation("Normalize")
def normalize(site: CallSite, x: Any) -> ir.Value:
    """x / max(norm, epsilon); of order 2, over whatever axes, by the sum of squares, as Keras has it."""
    kind, x = site.source, site.tensor(x)
    length = norm_of(site, x, None if kind.order == 2 else kind.order, kind.axis, True)
    return x / site.op("Max", length, site.epsilon)


@operation("DotProductAttention")
def attention(
    site: CallSite, query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None
) -> ir.Value:
    """Attention of (batch, time, heads, size); ONNX' Attention has the heads second."""
    kind = site.source
    if kind.attn_logits_soft_cap:
        site.refuse("a cap on the attention logits")
    q, k, v = (site.transpose(t, [0, 2, 1, 3]) for t in site.promoted(query, key, value))
    size = site.shape(q)[-1]
    if scale is None:
        site.require([size], "heads whose size is not known")
    factor = 1 / math.sqrt(size) if scale is None else float(scale)
    masks = attention_mask(site, q.dtype, bias, mask)
    y = site.op("Attention", q, k, v, *masks, scale=factor, is_causal=1 if kind.is_causal else None)
    return site.transpose(y, [0, 2, 1, 3])


def attention_mask(site: CallSite, dtype: ir.DataType, bias: Any, mask: Any) -> list[ir.Value]:
    """Combine a bias and a boolean mask to the one mask of ONNX' Attention."""
    if bias is None and mask is None:
        return []
    allowed = None if mask is None else site.cast(site.tensor(mask), ir.DataType.BOOL)
    if bias is None:
        return [allowed]  # type: ignore[list-item]
    added = site.cast(site.tensor(bias), dtype)
    if allowed is None:
        return [added]
    return [site.op("Where", allowed, added, -math.inf)]


@operation("DepthToSpace", "SpaceToDepth")
def depth_and_space(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    y = site.op(site.operation, site.first(site.tensor(x), site.data_format), blocksize=int(kind.block_size))
    return site.last(y, site.data_format)


@operation("Unfold")
def unfold(site: CallSite, x: Any) -> ir.Value:
    """(N, C, H, W) to (N, C * kh * kw, L), by picking rows, then columns."""
    kind, x = site.source, site.tensor(x)
    kernel, dilations, padding, strides = (
        many(n, 2) for n in (kind.kernel_size, kind.dilation, kind.padding, kind.stride)
    )
    if any(padding):
        x = pad(site, x, [2, 3], [(p, p) for p in padding])
    for axis, length, stride, dilation in zip((2, 4), kernel, strides, dilations, strict=True):
        x = frames(site, x, length, stride, axis, dilation)
    moved = site.transpose(x, [0, 1, 3, 5, 2, 4])  # of (N, C, rows, kh, columns, kw)
    return site.op("Reshape", moved, [0, site.shape(x)[1] * math.prod(kernel), -1])


@operation("Fold")
def fold(site: CallSite, x: Any) -> ir.Value:
    """(N, C * kh * kw, L) to (N, C, H, W), summed where windows overlap."""
    kind, x = site.source, site.tensor(x)
    if not x.dtype.is_floating_point():
        site.refuse("folding whole numbers")
    kernel, dilations, padding, strides = (
        many(n, 2) for n in (kind.kernel_size, kind.dilation, kind.padding, kind.stride)
    )
    size = many(kind.output_size, 2)
    return site.op("Col2Im", x, size, kernel, dilations=dilations, pads=[*padding, *padding], strides=strides)
