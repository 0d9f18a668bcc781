"""Convolutions, channels-last."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FORM, rules
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays.convolution import sizes_of, transposed
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Default, Literal, call, code
from dlbridge.source.windows import Pads, is_same_upper, one_or_all, options, pads_of, transposed_pads


def kernel_to_last(count: int) -> tuple[int, ...]:
    """(out, in, k...) -> (k..., in, out)."""
    return (*range(2, 2 + count), 1, 0)


def zero_padding(pads: Pads) -> Code:
    """The layer that pads the spatial axes with zeros."""
    if len(set(pads)) == 1 and pads[0][0] == pads[0][1]:
        amount: Any = pads[0][0]
    else:
        amount = tuple(pads) if len(pads) > 1 else pads[0]
    return call(f"layers.ZeroPadding{len(pads)}D", Literal(amount, "padding"))


def _padded(op: Op, x: Any, pads: Pads) -> Code:
    """What a convolution reads, padded: by a layer, or by a function for halves, of which the layer makes float32."""
    is_half = op.dtype() in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return call("ops.pad", x, ((0, 0), *pads, (0, 0))) if is_half else call(zero_padding(pads), x)


def layer(op: Op, kind: str, sizes: dict[str, Any], keywords: dict[str, Any]) -> Code:
    """``layers.Conv2D(16, 3, padding="same", activation="relu")``."""
    given = [Literal(size, name) for name, size in sizes.items()]
    return call(f"layers.{kind}", *given, **keywords, activation=op.attr("activation"))


@rules("Conv", domain=FORM)
@rules("Conv", domain=DOMAIN)
def conv(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    count, group, x = len(kernel), op.attr("group"), op.x
    pads = pads_of(op, kernel, first=1)
    padding = "valid"
    if pads is None or any(p != (0, 0) for p in pads):
        if is_same_upper(op, kernel, first=1):
            padding = "same"
        elif pads is None:
            x = call("pad_same", x, tuple(kernel), tuple(strides), tuple(dilations))
        else:
            x = _padded(op, x, pads)
    keywords = options(strides=(strides, 1), dilation_rate=(dilations, 1))
    keywords["padding"] = Default(padding, "valid")
    if strides != [1] * count and dilations != [1] * count:
        return _strided_and_dilated(op, x, strides, keywords)
    weights = op.kernel_and_bias(("transpose", kernel_to_last(count)))
    if weights is None:
        return _functional(op, x, count, keywords)
    if "bias" not in weights:
        keywords["use_bias"] = False
    if group == weight[0] and group > 1 and weight[1] == 1 and count <= 2:
        depth = op.kernel_and_bias(("transpose", (*range(2, 2 + count), 0, 1))) or {}
        new = layer(op, f"DepthwiseConv{count}D", {"kernel_size": one_or_all(kernel)}, keywords)
        return Emit(call(LAYER, x), Layer(new, depth))
    if group != 1:
        keywords["groups"] = group
    sizes = {"filters": weight[0], "kernel_size": one_or_all(kernel)}
    return Emit(call(LAYER, x), Layer(layer(op, f"Conv{count}D", sizes, keywords), weights))


def _strided_and_dilated(op: Op, x: Any, strides: list[int], keywords: dict[str, Any]) -> Code:
    """Keras has no convolution with both; the one without strides has all results, and more."""
    count = len(strides)
    if keywords["padding"].value == "same":
        pads = pads_of(op, sizes_of(op)[1], first=1)
        if pads is None:
            op.refuse("this padding with strides and dilation needs a size that is known")
        x = _padded(op, x, pads)  # type: ignore[arg-type]
    kernel = call("ops.transpose", op[1], kernel_to_last(count))
    name, group = ("ops.conv", []) if op.attr("group") == 1 else ("grouped_conv", [op.attr("group")])
    result = call(name, x, kernel, *group, padding="valid", dilation_rate=keywords["dilation_rate"])
    cut = ", ".join([":", *(f"::{stride}" if stride != 1 else ":" for stride in strides)])
    result = code(f"{{}}[{cut}]", result)
    return code("{} + {}", op[2], result) if op.has(2) else result


def _functional(op: Op, x: Any, count: int, keywords: dict[str, Any]) -> Code:
    """A convolution whose kernel is computed."""
    kernel, group = call("ops.transpose", op[1], kernel_to_last(count)), op.attr("group")
    result = call("ops.conv", x, kernel, **keywords)
    if group != 1:
        result = call("grouped_conv", x, kernel, group, **keywords)
    return code("{} + {}", op[2], result) if op.has(2) else result


@rules("ConvTranspose", domain=FORM)
@rules("ConvTranspose", domain=DOMAIN)
def conv_transpose(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    count = len(kernel)
    extra = op.attr("output_padding") or [0] * count
    pads = transposed_pads(op, kernel, strides, dilations, extra)
    weights = op.kernel_and_bias(("transpose", kernel_to_last(count)))
    if weights is None or op.attr("group") != 1:
        return _transposed_by_hand(op, strides, dilations, pads, extra)
    # 'valid' gives the whole result, (in - 1) * stride + dilated kernel, and no less than in * stride.
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    keywords = options(strides=(strides, 1), dilation_rate=(dilations, 1))
    if "bias" not in weights:  # type: ignore[operator]
        keywords["use_bias"] = False
    crops: Pads = []
    fills: Pads = []
    for (before, after), span, stride, more in zip(pads, spans, strides, extra, strict=True):
        tail = after - more - max(stride - span, 0)
        crops.append((max(before, 0), max(tail, 0) if span >= stride else max(after - more + stride - span, 0)))
        fills.append((max(-before, 0), max(more - after - max(stride - span, 0), 0)))
    if any(f != (0, 0) for f in fills) or (strides != [1] * count and dilations != [1] * count):
        return _transposed_by_hand(op, strides, dilations, pads, extra)
    plain = all(c == (0, 0) for c in crops)
    new = layer(op, f"Conv{count}DTranspose", {"filters": weight[1], "kernel_size": one_or_all(kernel)}, keywords)
    if plain:
        return Emit(call(LAYER, op.x), Layer(new, weights))  # type: ignore[arg-type]
    amount: Any = tuple(crops) if count > 1 else crops[0]
    cropping = call(f"layers.Cropping{count}D", Literal(amount, "cropping"))
    return Emit(code("{}({})", cropping, call(LAYER, op.x)), Layer(new, weights))  # type: ignore[arg-type]


def _transposed_by_hand(op: Op, strides: list[int], dilations: list[int], pads: Pads, extra: list[int]) -> Code:
    """For what ``Conv2DTranspose`` lacks: groups, computed kernels, strides with dilation, pads beyond the kernel."""
    result = transposed(op, strides, dilations, pads, extra)
    return code("{} + {}", op[2], result) if op.has(2) else result
