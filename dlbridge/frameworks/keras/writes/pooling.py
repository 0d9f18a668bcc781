"""Pooling, channels-last."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import FORM, rules
from dlbridge.frameworks.keras.writes.arrays import KERAS
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays.pooling import (
    average_by_formula,
    dilations_of,
    kernel_of,
    lowest,
    padded,
    with_overhang,
)
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call
from dlbridge.source.windows import is_same_upper, one_or_all, pads_of


def _layer(op: Op, kind: str, x: Any, kernel: list[int], strides: list[int], padding: str | None) -> Emit | Code:
    if op.functional:  # in a function no layer can live
        name = f"ops.{kind.removesuffix('Pooling').lower()}_pool"
        return call(name, x, one_or_all(kernel), one_or_all(strides), padding=padding or "valid")
    keywords: dict[str, Any] = {} if strides == kernel else {"strides": one_or_all(strides)}
    keywords |= {"padding": padding} if padding else {}
    new = call(f"layers.{kind}{len(kernel)}D", Literal(one_or_all(kernel), "pool_size"), **keywords)
    return Emit(call(LAYER, x), Layer(new))


@rules("MaxPool", domain=DOMAIN)
def max_pool(op: Op) -> Emit | Code:
    kernel, strides, _ = kernel_of(op)
    pads, dilated = pads_of(op, kernel, first=1), dilations_of(op, kernel)
    if dilated is None and is_same_upper(op, kernel, first=1) and (pads is None or any(p != (0, 0) for p in pads)):
        return _layer(op, "MaxPooling", op.x, kernel, strides, "same")  # Keras pads with the lowest number there is
    x = padded(op, KERAS, kernel, strides, pads, lowest(op))
    if dilated:
        return Emit(call("ops.max", call("window_stack", x, tuple(kernel), tuple(strides), dilated), axis=0))
    return _layer(op, "MaxPooling", x, kernel, strides, None)


@rules("AveragePool", domain=DOMAIN)
def average_pool(op: Op) -> Emit | Code:
    kernel, strides, _ = kernel_of(op)
    pads, counted = pads_of(op, kernel, first=1), bool(op.attr("count_include_pad"))
    dilated = dilations_of(op, kernel)
    if (
        dilated is None
        and not counted
        and is_same_upper(op, kernel, first=1)
        and (pads is None or any(p != (0, 0) for p in pads))
    ):
        return _layer(op, "AveragePooling", op.x, kernel, strides, "same")  # Keras does not count pads
    whole = None if pads is None else with_overhang(op, kernel, strides, pads)
    if dilated is None and whole is not None and all(p == (0, 0) for p in whole):
        return _layer(op, "AveragePooling", op.x, kernel, strides, None)
    if dilated is None and counted and pads is not None and whole == pads:
        x = call("ops.pad", op.x, [(0, 0), *pads, (0, 0)])
        return _layer(op, "AveragePooling", x, kernel, strides, None)
    return average_by_formula(op, kernel, strides, pads)


@rules("GlobalAveragePool", "GlobalMaxPool", domain=FORM)
@rules("GlobalAveragePool", "GlobalMaxPool", domain=DOMAIN)
def global_pool(op: Op) -> Emit | Code:
    count = op.rank() - 2
    kind = op.key.removeprefix("Global").removesuffix("Pool")
    function = {"Average": "ops.mean", "Max": "ops.max"}[kind]
    keepdims = True if op.attr("keepdims", 1) else None
    by_axes = call(function, op.x, axis=tuple(range(1, count + 1)), keepdims=keepdims)
    if count > 3:
        return by_axes
    return Emit(by_axes, module=Layer(call(f"layers.Global{kind}Pooling{count}D", keepdims=keepdims)))
