"""Pooling, channels-last."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import FLAT, ints, rules
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.code import Code, Literal, Raw, call
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.windows import Pads, is_same_upper, one_or_all, pads_of, window


def _check(op: Op) -> tuple[list[int], list[int], int]:
    kernel = op.attr("kernel_shape")
    return kernel, window(op, kernel)[0], len(kernel)


def _dilated(op: Op, kernel: list[int]) -> tuple[int, ...] | None:
    """The dilations, where the pooling has some or is of more axes than Keras' own."""
    dilations = window(op, kernel)[1]
    return tuple(dilations) if any(d != 1 for d in dilations) or len(kernel) > 3 else None


def _overhang(op: Op, kernel: list[int], strides: list[int], pads: Pads, first: int) -> list[int] | None:
    """How far the last window of ``ceil_mode`` stands out behind the padded input, along each axis."""
    found = []
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, window(op, kernel)[1], strict=True)]
    for axis, (k, s, (before, after)) in enumerate(zip(spans, strides, pads, strict=True)):
        size = (op.shape() or [])[first + axis]
        if not isinstance(size, int):
            return None
        padded = size + before + after
        count = -(-(padded - k) // s) + 1
        if (count - 1) * s >= size + before:  # a window that starts in the padding is left out
            count -= 1
        found.append(max((count - 1) * s + k - padded, 0))
    return found


def _same(op: Op, kernel: list[int]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of the helpers that pad at run time."""
    strides, dilations = window(op, kernel)
    upper = {"upper": True} if op.attr("auto_pad") == "SAME_UPPER" else {}
    return [op.x, tuple(kernel), tuple(strides), tuple(dilations)], upper


def _pad_same(op: Op, kernel: list[int], **value: Any) -> Code:
    given, upper = _same(op, kernel)
    return call("pad_same", *given, **upper, **value)


def _layer(op: Op, kind: str, x: Any, kernel: list[int], strides: list[int], padding: str | None) -> Emit | Code:
    if op.functional:  # in a function no layer can live
        name = f"ops.{kind.removesuffix('Pooling').lower()}_pool"
        return call(name, x, one_or_all(kernel), one_or_all(strides), padding=padding or "valid")
    keywords: dict[str, Any] = {} if strides == kernel else {"strides": one_or_all(strides)}
    keywords |= {"padding": padding} if padding else {}
    new = call(f"layers.{kind}{len(kernel)}D", Literal(one_or_all(kernel), "pool_size"), **keywords)
    return Emit(call(LAYER, x), Layer(new))


@rules("MaxPool", domain=DOMAIN)
def max_pool(op: Op) -> Emit:
    kernel, strides, _ = _check(op)
    pads, dilated = pads_of(op, kernel, first=1), _dilated(op, kernel)
    if dilated is None and is_same_upper(op, kernel, first=1) and (pads is None or any(p != (0, 0) for p in pads)):
        return _layer(op, "MaxPooling", op.x, kernel, strides, "same")  # Keras pads with the lowest number there is
    lowest = Raw('float("-inf")') if op.dtype().is_floating_point() else _lowest(op)
    x = _padded(op, kernel, strides, pads, lowest)
    if dilated:
        return Emit(call("ops.max", call("window_stack", x, tuple(kernel), tuple(strides), dilated), axis=0))
    return _layer(op, "MaxPooling", x, kernel, strides, None)


def _padded(op: Op, kernel: list[int], strides: list[int], pads: Pads | None, value: Any) -> Any:
    """The input with its pads, and what the windows of ``ceil_mode`` reach over behind them, of this value."""
    if pads is None:
        return _pad_same(op, kernel, value=value)
    whole = _with_overhang(op, kernel, strides, pads)
    around = pads if whole is None else whole
    x: Any = op.x
    if any(p != (0, 0) for p in around):
        x = call("ops.pad", x, [(0, 0), *around, (0, 0)], constant_values=value or None)
    return (
        x if whole is not None else call("fill_windows", x, *_windows(op, kernel, strides, pads), value=value or None)
    )


def _windows(op: Op, kernel: list[int], strides: list[int], pads: Pads) -> list[Any]:
    """Arguments of the helpers that count the windows of ``ceil_mode`` at run time."""
    return [tuple(kernel), tuple(strides), tuple(window(op, kernel)[1]), tuple(after for _, after in pads)]


@rules("MaxPool")
def max_pool_with_indices(op: Op) -> Code:
    """Of (batch, channels, ...): where the maxima are is asked for, and counted in that order."""
    kernel, strides, _ = _check(op)
    sizes = (op.shape() or [])[2:]
    if op.dtype().is_integer() or not all(isinstance(d, int) for d in sizes):
        op.refuse("where the maxima are needs sizes that are known, and floats")
    pads = _with_overhang(op, kernel, strides, pads_of(op, kernel) or [], first=2) or []
    around = [(0, 0), *pads, (0, 0)]
    column_major = True if op.attr("storage_order") else None
    given = tuple(kernel), tuple(strides), tuple(window(op, kernel)[1])
    return call("max_pool_with_indices", op.x, *given, around, column_major=column_major)


@rules("MaxUnpool")
def max_unpool(op: Op) -> Code:
    kernel, strides, count = _check(op)
    pads = op.attr("pads") or [0] * 2 * count
    shape = ints(op, 2) if op.has(2) else None
    return call("max_unpool", op.x, op[1], tuple(kernel), tuple(strides), pads, output_shape=shape)


def _lowest(op: Op) -> int:
    import numpy as np

    return int(np.iinfo(op.dtype().numpy()).min)


def _with_overhang(op: Op, kernel: list[int], strides: list[int], pads: Pads, first: int = 1) -> Pads | None:
    """The pads, with more behind where windows of ``ceil_mode`` reach over them; None when only run time can tell."""
    if not op.attr("ceil_mode"):
        return pads
    more = _overhang(op, kernel, strides, pads, first)
    if more is None:
        return None
    return [(before, after + m) for (before, after), m in zip(pads, more, strict=True)]


@rules("AveragePool", domain=DOMAIN)
def average_pool(op: Op) -> Emit | Code:
    kernel, strides, count = _check(op)
    pads, counted = pads_of(op, kernel, first=1), bool(op.attr("count_include_pad"))
    dilated = _dilated(op, kernel)
    if (
        dilated is None
        and not counted
        and is_same_upper(op, kernel, first=1)
        and (pads is None or any(p != (0, 0) for p in pads))
    ):
        return _layer(op, "AveragePooling", op.x, kernel, strides, "same")  # Keras does not count pads
    if pads is None:
        given, upper = _same(op, kernel)
        return call("average_pool_same", *given, **upper, **({"counted": True} if counted else {}))
    whole = _with_overhang(op, kernel, strides, pads)
    if whole is None:
        around = [(0, 0), *pads, (0, 0)] if any(p != (0, 0) for p in pads) else None
        arguments = _windows(op, kernel, strides, pads)
        return call("average_pool_ceil", op.x, *arguments, around, **({"counted": True} if counted else {}))
    if dilated is None and all(p == (0, 0) for p in whole):
        return _layer(op, "AveragePooling", op.x, kernel, strides, None)
    inner = [(0, 0)] * (count + 2) if not counted else [(0, 0), *pads, (0, 0)]
    outer = [(b - i, a - j) for (b, a), (i, j) in zip([(0, 0), *whole, (0, 0)], inner, strict=True)]
    if dilated is None and counted and all(p == (0, 0) for p in outer):
        return _layer(op, "AveragePooling", call("ops.pad", op.x, inner), kernel, strides, None)
    return call("average_pool", op.x, tuple(kernel), tuple(strides), inner, outer, dilations=dilated)


@rules("GlobalAveragePool", "GlobalMaxPool", domain=DOMAIN)
def global_pool(op: Op) -> Emit | Code:
    count = op.rank() - 2
    kind = op.key.removeprefix("Global").removesuffix("Pool")
    function = {"Average": "ops.mean", "Max": "ops.max"}[kind]
    keepdims = None if op.node.meta.get(FLAT) else True
    by_axes = call(function, op.x, axis=tuple(range(1, count + 1)), keepdims=keepdims)
    if count > 3:
        return by_axes
    return Emit(by_axes, module=Layer(call(f"layers.Global{kind}Pooling{count}D", keepdims=keepdims)))


@rules("LpPool", domain=DOMAIN)
def lp_pool(op: Op) -> Code:
    kernel, strides, _ = _check(op)
    x = _padded(op, kernel, strides, pads_of(op, kernel, first=1), 0)
    return call("lp_pool", x, op.attr("p"), tuple(kernel), tuple(strides), dilations=_dilated(op, kernel))


@rules("GlobalLpPool", domain=DOMAIN)
def global_lp_pool(op: Op) -> Code:
    axes = tuple(range(1, op.rank() - 1))
    return call("lp_norm", op.x, op.attr("p"), axes)
