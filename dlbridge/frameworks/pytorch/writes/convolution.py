"""Convolutions: layers where the weights are the model's, functions where they are computed."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.arrays.convolution import sizes_of
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Default, Literal, call
from dlbridge.source.weights import Weight
from dlbridge.source.windows import Pads, one_or_all, options, pads_of, transposed_pads_of


def flat(pads: Pads) -> tuple[int, ...]:
    """Pads as F.pad takes them: the last axis first."""
    return tuple(amount for pair in reversed(pads) for amount in pair)


def is_symmetric(pads: Pads) -> bool:
    return all(before == after for before, after in pads)


@rules("Conv")
def conv(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    count = len(kernel)
    pads, x = pads_of(op, kernel), op.x
    if pads is None:
        lower = True if op.attr("auto_pad") == "SAME_LOWER" else None
        x = call("pad_same", x, tuple(kernel), tuple(strides), tuple(dilations), lower=lower)
        pads = [(0, 0)] * count
    elif not is_symmetric(pads):
        x, pads = call("F.pad", x, flat(pads)), [(0, 0)] * count
    keywords = options(stride=(strides, 1), padding=([p for p, _ in pads], 0), dilation=(dilations, 1))
    group = op.attr("group")
    keywords["groups"] = Default(group, 1)
    sizes = (weight[1] * group, weight[0], one_or_all(kernel))
    return _layer_or_function(op, x, f"nn.Conv{count}d", f"F.conv{count}d", sizes, keywords)


def _layer_or_function(
    op: Op, x: Any, layer: str, function: str, sizes: tuple[int, int, Any], keywords: dict[str, Any]
) -> Emit | Code:
    """The layer of the model's weights, else the function of those that are computed."""
    weight, bias = op.initializer(1), op.initializer(2)
    if weight is None or (op.has(2) and bias is None):
        return call(function, x, op[1], *([op[2]] if op.has(2) else []), **keywords)
    names = ("in_channels", "out_channels", "kernel_size")
    given = [Literal(size, name) for name, size in zip(names, sizes, strict=True)]
    new = call(layer, *given, **keywords, bias=False if bias is None else None)
    weights = {"weight": Weight.of(weight)} | ({"bias": Weight.of(bias)} if bias else {})
    return Emit(call(LAYER, x), Layer(new, weights))


@rules("ConvTranspose")
def conv_transpose(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    count = len(kernel)
    extra = op.attr("output_padding") or [0] * count
    pads = transposed_pads_of(op, kernel, strides, dilations, extra)
    group = op.attr("group")
    fits = pads is not None and is_symmetric(pads) and all(p >= 0 for p, _ in pads)
    fits = fits and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if not fits:
        given = [op[2] if op.has(2) else None, tuple(strides), flat(pads) if pads else None]
        keywords: dict[str, Any] = {"output_padding": tuple(extra)} if any(extra) else {}
        keywords |= {"dilation": tuple(dilations)} if any(d != 1 for d in dilations) else {}
        if pads is None:
            upper = True if op.attr("auto_pad") == "SAME_UPPER" else None
            keywords |= {"output_shape": tuple(op.attr("output_shape")[-count:]), "upper": upper}
        return call("conv_transpose", op.x, op[1], *given, groups=group if group != 1 else None, **keywords)
    keywords = options(stride=(strides, 1), padding=([p for p, _ in pads or []], 0), output_padding=(extra, 0))
    keywords["groups"] = Default(group, 1)
    keywords |= options(dilation=(dilations, 1))
    sizes = (weight[0], weight[1] * group, one_or_all(kernel))
    return _layer_or_function(op, op.x, f"nn.ConvTranspose{count}d", f"F.conv_transpose{count}d", sizes, keywords)
