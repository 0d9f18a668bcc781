"""Convolutions, channels-last."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import RNGS, param_dtype, rules
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays.convolution import sizes_of, transposed
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Default, Literal, call, code
from dlbridge.source.windows import is_same_upper, one_or_all, pads_of, transposed_pads


def _padding(op: Op, kernel: list[int]) -> Any:
    """The padding as ``nnx.Conv`` takes it; None where the helper ``pad_same`` has to pad."""
    pads = pads_of(op, kernel, first=1)
    if pads is None:
        return "SAME" if is_same_upper(op, kernel, first=1) else None
    if all(p == (0, 0) for p in pads):
        return "VALID"
    amounts = {amount for pair in pads for amount in pair}
    return amounts.pop() if len(amounts) == 1 else tuple(pads)


@rules("Conv", domain=DOMAIN)
def conv(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    group, x, padding = op.attr("group"), op.x, _padding(op, kernel)
    if padding is None:
        x, padding = call("pad_same", x, tuple(kernel), tuple(strides), tuple(dilations)), "VALID"
    order = (*range(2, len(weight)), 1, 0)
    weights = op.kernel_and_bias(("transpose", order))
    if weights is None:
        given = padding if isinstance(padding, str) else [(padding, padding)] * len(kernel)
        given = list(padding) if isinstance(padding, tuple) else given
        made = call(
            "conv",
            x,
            call("jnp.transpose", op[1], order),
            strides=None if set(strides) == {1} else tuple(strides),
            padding=None if given == "VALID" else given,
            dilation_rate=None if set(dilations) == {1} else tuple(dilations),
        )
        return code("{} + {}", made, op[2]) if op.has(2) else made
    sizes = (
        Literal(weight[1] * group, "in_features"),
        Literal(weight[0], "out_features"),
        Literal(tuple(kernel), "kernel_size"),
    )
    new = call(
        "nnx.Conv",
        *sizes,
        strides=Default(one_or_all(strides), 1),
        padding=Default(padding, "SAME"),
        kernel_dilation=Default(one_or_all(dilations), 1),
        feature_group_count=None if group == 1 else group,
        use_bias=None if "bias" in weights else False,
        param_dtype=param_dtype(op, 1),
        rngs=RNGS,
    )
    return Emit(call(LAYER, x), Layer(new, weights))


@rules("ConvTranspose", domain=DOMAIN)
def conv_transpose(op: Op) -> Emit | Code:
    weight, kernel, strides, dilations = sizes_of(op)
    extra = op.attr("output_padding") or [0] * len(kernel)
    pads = transposed_pads(op, kernel, strides, dilations, extra)
    weights = op.kernel_and_bias(("transpose", (*range(2, len(weight)), 1, 0)))
    if weights is None or op.attr("group") != 1:
        result = transposed(op, strides, dilations, pads, extra)
        return code("{} + {}", result, op[2]) if op.has(2) else result
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    around = [(s - b, s - a + e) for s, (b, a), e in zip(spans, pads, extra, strict=True)]
    sizes = (
        Literal(weight[0], "in_features"),
        Literal(weight[1], "out_features"),
        Literal(tuple(kernel), "kernel_size"),
    )
    new = call(
        "nnx.ConvTranspose",
        *sizes,
        strides=Default(tuple(strides), None),
        padding=Literal(tuple(around), "padding"),
        kernel_dilation=None if set(dilations) == {1} else tuple(dilations),
        transpose_kernel=True,
        use_bias=None if "bias" in weights else False,
        param_dtype=param_dtype(op, 1),
        rngs=RNGS,
    )
    return Emit(call(LAYER, op.x), Layer(new, weights))
