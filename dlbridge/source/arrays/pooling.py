"""Pooling by windows: what the layers of frameworks lack of the standard's, channels-last."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, Raw, call
from dlbridge.source.windows import Pads, pads_of, window

pooling = Family()


def kernel_of(op: Op) -> tuple[list[int], list[int], int]:
    """The kernel's sizes, the strides, and the number of spatial axes."""
    kernel = op.attr("kernel_shape")
    return kernel, window(op, kernel)[0], len(kernel)


def dilations_of(op: Op, kernel: list[int]) -> tuple[int, ...] | None:
    """The dilations, where the pooling has some or is of more axes than the frameworks' own."""
    dilations = window(op, kernel)[1]
    return tuple(dilations) if any(d != 1 for d in dilations) or len(kernel) > 3 else None


def overhang(op: Op, kernel: list[int], strides: list[int], pads: Pads, first: int) -> list[int] | None:
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


def same_arguments(op: Op, kernel: list[int]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of the helpers that pad at run time."""
    strides, dilations = window(op, kernel)
    upper = {"upper": True} if op.attr("auto_pad") == "SAME_UPPER" else {}
    return [op.x, tuple(kernel), tuple(strides), tuple(dilations)], upper


def _pad_same(op: Op, kernel: list[int], **value: Any) -> Code:
    given, upper = same_arguments(op, kernel)
    return call("pad_same", *given, **upper, **value)


def padded(op: Op, arrays: ArrayDialect, kernel: list[int], strides: list[int], pads: Pads | None, value: Any) -> Any:
    """The input with its pads, and what the windows of ``ceil_mode`` reach over behind them, of this value."""
    if pads is None:
        return _pad_same(op, kernel, value=value)
    whole = with_overhang(op, kernel, strides, pads)
    around = pads if whole is None else whole
    x: Any = op.x
    if any(p != (0, 0) for p in around):
        x = arrays.call("pad", x, [(0, 0), *around, (0, 0)], constant_values=value or None)
    if whole is not None:
        return x
    return call("fill_windows", x, *window_arguments(op, kernel, strides, pads), value=value or None)


def window_arguments(op: Op, kernel: list[int], strides: list[int], pads: Pads) -> list[Any]:
    """Arguments of the helpers that count the windows of ``ceil_mode`` at run time."""
    return [tuple(kernel), tuple(strides), tuple(window(op, kernel)[1]), tuple(after for _, after in pads)]


def average_by_formula(op: Op, kernel: list[int], strides: list[int], pads: Pads | None) -> Code:
    """A call of the helper that averages with any padding, and of sizes that are not known."""
    counted = bool(op.attr("count_include_pad"))
    options = {"counted": True} if counted else {}
    if pads is None:
        given, upper = same_arguments(op, kernel)
        return call("average_pool_same", *given, **upper, **options)
    around, nothing = [(0, 0), *pads, (0, 0)], [(0, 0)] * (len(kernel) + 2)
    whole = with_overhang(op, kernel, strides, pads)
    if whole is None:
        given = window_arguments(op, kernel, strides, pads)
        return call("average_pool_ceil", op.x, *given, around if around != nothing else None, **options)
    inner = around if counted else nothing
    outer = [(b - i, a - j) for (b, a), (i, j) in zip([(0, 0), *whole, (0, 0)], inner, strict=True)]
    return call("average_pool", op.x, tuple(kernel), tuple(strides), inner, outer, dilations=dilations_of(op, kernel))


def lowest(op: Op) -> Any:
    """The lowest number of the first input's type."""
    return Raw('float("-inf")') if op.dtype().is_floating_point() else int(np.iinfo(op.dtype().numpy()).min)


def with_overhang(op: Op, kernel: list[int], strides: list[int], pads: Pads, first: int = 1) -> Pads | None:
    """The pads, with more behind where windows of ``ceil_mode`` reach over them; None when only run time can tell."""
    if not op.attr("ceil_mode"):
        return pads
    more = overhang(op, kernel, strides, pads, first)
    if more is None:
        return None
    return [(before, after + m) for (before, after), m in zip(pads, more, strict=True)]


@pooling("MaxPool")
def max_pool_with_indices(op: Op, arrays: ArrayDialect) -> Code:
    """Of (batch, channels, ...): where the maxima are is asked for, and counted in that order."""
    kernel, strides, _ = kernel_of(op)
    sizes = (op.shape() or [])[2:]
    if op.dtype().is_integer() or not all(isinstance(d, int) for d in sizes):
        op.refuse("where the maxima are needs sizes that are known, and floats")
    pads = with_overhang(op, kernel, strides, pads_of(op, kernel) or [], first=2) or []
    around = [(0, 0), *pads, (0, 0)]
    column_major = True if op.attr("storage_order") else None
    given = tuple(kernel), tuple(strides), tuple(window(op, kernel)[1])
    return call("max_pool_with_indices", op.x, *given, around, column_major=column_major)


@pooling("MaxUnpool")
def max_unpool(op: Op, arrays: ArrayDialect) -> Code:
    kernel, strides, count = kernel_of(op)
    pads = op.attr("pads") or [0] * 2 * count
    shape = arrays.ints(op, 2) if op.has(2) else None
    return call("max_unpool", op.x, op[1], tuple(kernel), tuple(strides), pads, output_shape=shape)


@pooling("LpPool", domain=DOMAIN)
def lp_pool(op: Op, arrays: ArrayDialect) -> Code:
    kernel, strides, _ = kernel_of(op)
    x = padded(op, arrays, kernel, strides, pads_of(op, kernel, first=1), 0)
    return call("lp_pool", x, op.attr("p"), tuple(kernel), tuple(strides), dilations=dilations_of(op, kernel))


@pooling("GlobalLpPool", domain=DOMAIN)
def global_lp_pool(op: Op, arrays: ArrayDialect) -> Code:
    axes = tuple(range(1, op.rank() - 1))
    return call("lp_norm", op.x, op.attr("p"), axes)
