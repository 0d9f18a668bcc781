"""Convolutions. Keras' kernels are (k..., in, out); the standard's (out, in, k...)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.frameworks.keras.reads.biases import add, bias_axis


def padding(kernel: list[int], strides: list[int], dilations: list[int], how: str) -> dict[str, Any]:
    """Keras' ``padding`` as attributes of a convolution or pooling.

    With a stride, what ``same`` adds depends on the size of the input: that is SAME_UPPER.
    """
    if how == "valid":
        return {}
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    if how == "causal":
        return {"pads": [*reach, *([0] * len(kernel))]}
    if all(s == 1 for s in strides):
        before = [r // 2 for r in reach]
        return {"pads": [*before, *(r - b for r, b in zip(reach, before, strict=True))]} if any(reach) else {}
    return {"auto_pad": "SAME_UPPER"}


def window(kernel: list[int], strides: list[int], dilations: list[int], how: str) -> dict[str, Any]:
    """The attributes for the window of a convolution or pooling, without those that have the default."""
    return _steps(kernel, strides, dilations) | padding(kernel, strides, dilations, how)


def _steps(kernel: list[int], strides: list[int], dilations: list[int]) -> dict[str, Any]:
    """The attributes for the size of a window and how it moves."""
    found = {"kernel_shape": kernel}
    if any(s != 1 for s in strides):
        found["strides"] = strides
    if any(d != 1 for d in dilations):
        found["dilations"] = dilations
    return found


def kernel_first(count: int) -> tuple:
    """(k..., in, out) -> (out, in, k...)."""
    return ("transpose", (count + 1, count, *range(count)))


@layer("Conv1D", "Conv2D", "Conv3D", lora=True)
def conv(site: CallSite) -> Any:
    groups = site.layer.groups
    weight = _kernel(site, kernel_first(site.layer.rank))
    return _convolved(site, "Conv", site.x, weight, group=groups if groups != 1 else None, **_window_of(site.layer))


def _window_of(kind: Any) -> dict[str, Any]:
    return window(list(kind.kernel_size), list(kind.strides), list(kind.dilation_rate), kind.padding)


def _convolved(site: CallSite, op_type: str, x: ir.Value, weight: ir.Value, **attributes: Any) -> Any:
    """What a layer makes of a tensor with a kernel in the standard's layout: with its bias and its activation."""
    kind, x = site.layer, site.first(x, site.layer.data_format)
    bias = site.weight(kind.bias, "bias") if kind.use_bias else None
    y = site.layer_op(op_type, x, weight, **attributes)
    if bias is not None:
        wide = (1, int(kind.bias.shape[0]), *([1] * kind.rank))
        if kind.data_format == "channels_first" and bias_axis(y, wide) is not None:
            y = add(site, y, site.op("Reshape", bias, list(wide)))
        else:
            node = y.producer()
            node.resize_inputs(3)
            node.replace_input_with(2, bias)
    return site.activation(site.last(y, kind.data_format), kind.activation)


def _kernel(site: CallSite, step: tuple[str, Any]) -> ir.Value:
    """The kernel with LoRA's addition, its axes permuted by a step of ``source.weights.View``."""
    kind = site.layer
    if not kind.lora_enabled:
        return site.weight(kind._kernel, "weight", step)
    low, high = (site.weight(getattr(kind, name), name) for name in ("lora_kernel_a", "lora_kernel_b"))
    change = site.op("MatMul", low, high) * float(kind.lora_alpha / kind.lora_rank)
    return site.transpose(site.weight(kind._kernel, "kernel") + change, step[1])


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(site: CallSite) -> Any:
    kind = site.layer
    weight = site.weight(kind.kernel, "weight", *_depthwise(kind.rank, kind.kernel.shape))
    return _convolved(site, "Conv", site.x, weight, group=int(kind.kernel.shape[-2]), **_window_of(kind))


def _depthwise(count: int, shape: tuple[int, ...]) -> tuple[tuple, ...]:
    """(k..., in, multiplier) -> (in * multiplier, 1, k...)."""
    *kernel, channels, multiplier = (int(s) for s in shape)
    turn = ("transpose", (count, count + 1, *range(count)))
    return (turn,) if multiplier == 1 else (turn, ("reshape", (channels * multiplier, 1, *kernel)))


@layer("SeparableConv1D", "SeparableConv2D")
def separable_conv(site: CallSite) -> Any:
    kind, path = site.layer, site.build.path
    count, kernel = kind.rank, kind.depthwise_kernel
    site.build.blocks[path] = type(kind).__name__
    with site.build.at(f"{path}.depthwise"):
        weight = site.weight(kernel, "weight", *_depthwise(count, kernel.shape))
        x = site.first(site.x, kind.data_format)
        x = site.layer_op("Conv", x, weight, group=int(kernel.shape[-2]), **_window_of(kind))
    with site.build.at(f"{path}.pointwise"):
        weight = site.weight(kind.pointwise_kernel, "weight", kernel_first(count))
        return _convolved(site, "Conv", site.last(x, kind.data_format), weight, kernel_shape=[1] * count)


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def conv_transpose(site: CallSite) -> Any:
    kind = site.layer
    count = kind.rank
    weight = site.weight(kind.kernel, "weight", kernel_first(count))
    extra = [None] * count if kind.output_padding is None else many(kind.output_padding, count)
    where = transposed_window(list(kind.kernel_size), list(kind.strides), list(kind.dilation_rate), kind.padding, extra)
    return _convolved(site, "ConvTranspose", site.x, weight, **where)


def many(value: Any, count: int) -> list[Any]:
    """A number for each axis."""
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value]


def transposed_window(
    kernel: list[int], strides: list[int], dilations: list[int], how: str, extra: list[int | None]
) -> dict[str, Any]:
    """The attributes of a transposed convolution.

    It is the gradient of the convolution that makes the input of an output of size ``in * stride + more``: what that
    one pads is cut here (TensorFlow's rule: half of it, rounded down, before).
    """
    found = _steps(kernel, strides, dilations)
    pads: list[tuple[int, int]] = []
    output_padding = []
    for k, s, d, e in zip(kernel, strides, dilations, extra, strict=True):
        span = (k - 1) * d + 1
        if e is None:
            size = max(span - s, 0) if how == "valid" else 0  # beyond in * stride
        else:
            size = span - s + e - (2 * (span // 2) if how == "same" else 0)
        cut = span - s - size
        before = max(cut, 0) // 2 if how == "same" else 0
        pads.append((before, max(cut, 0) - before))
        output_padding.append(max(-cut, 0))
    if any(p != (0, 0) for p in pads):
        found["pads"] = [*(b for b, _ in pads), *(a for _, a in pads)]
    if any(output_padding):
        found["output_padding"] = output_padding
    return found
