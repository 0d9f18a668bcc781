"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import Size, is_float, numel, quotient, rank, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.frameworks.pytorch.reads.convolution import batched, each


def _count(op: Op) -> int:
    """The number of spatial axes, from the op's name."""
    return int(op.name.partition("pool")[2][0])


def _windows(op: Op, kernel_size: Any, stride: Any, padding: Any) -> tuple[list[int], list[int], list[int]]:
    """The sizes of windows, their steps and the pads, for each axis; each is given as one number or one per axis."""
    kernel = each(kernel_size, _count(op))
    return kernel, each(stride, len(kernel)) if stride else kernel, each(padding, len(kernel))


@reads("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "dlbridge.max_pool1d")
@reads("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices", "aten.max_pool1d_with_indices")
def max_pool(
    op: Op,
    x: ir.Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> ir.Value | list[ir.Value]:
    kernel, strides, pads = _windows(op, kernel_size, stride, padding)
    count = len(kernel)
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads * 2,
        "dilations": each(dilation, count),
        "ceil_mode": int(ceil_mode),
    }
    if op.name.endswith("with_indices"):
        return _with_indices(op, x, count, attributes)
    return batched(op, x, count, lambda value: op("MaxPool", value, **attributes))


def _with_indices(op: Op, x: ir.Value, count: int, attributes: dict[str, Any]) -> list[ir.Value]:
    """Convert indices: ONNX counts over the whole tensor, PyTorch within each (batch, channel)."""
    spatial = sizes(x)[-count:]
    if rank(x) != count + 2 or not all(isinstance(s, int) for s in spatial):
        op.refuse("indices of a pool over a size that is not fixed, or without a batch")
    values, indices = op("MaxPool", x, outputs=2, **attributes)
    indices.dtype = ir.DataType.INT64
    return [values, op("Mod", indices, int(np.prod(spatial)))]


@reads("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(
    op: Op,
    x: ir.Value,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> ir.Value:
    kernel, strides, pads = _windows(op, kernel_size, stride, padding)
    count, is_whole = len(kernel), not is_float(x)
    if is_whole:
        x = op.cast(x, ir.DataType.DOUBLE)
    if divisor_override is not None and ceil_mode:  # positions beyond the input count as zeros too
        x, pads, ceil_mode = _filled_up(op, x, kernel, strides, pads), [0] * count, False

    def pool(value: ir.Value) -> ir.Value:
        return op(
            "AveragePool",
            value,
            kernel_shape=kernel,
            strides=strides,
            pads=pads * 2,
            ceil_mode=int(ceil_mode),
            count_include_pad=int(count_include_pad or divisor_override is not None) if any(pads) else 0,
        )

    result = batched(op, x, count, pool)
    if divisor_override is not None:
        result = result * (float(np.prod(kernel)) / divisor_override)
    return op.cast(result) if is_whole else result  # integers are truncated after the division


def _filled_up(op: Op, x: ir.Value, kernel: list[int], strides: list[int], pads: list[int]) -> ir.Value:
    """Pad ``x``, also with the zeros at the end that the last window needs."""
    count = len(kernel)
    given, made = sizes(x)[-count:], op.sizes[-count:]
    if not all(isinstance(s, int) for s in given):
        op.refuse("average pooling with divisor_override and ceil_mode over a size that is not fixed")
    last = [(o - 1) * s + k for o, s, k in zip(made, strides, kernel, strict=True)]
    after = [max(needed - size - pad, 0) for needed, size, pad in zip(last, given, pads, strict=True)]
    lead = [0] * (rank(x) - count)
    widths = [(*sides, size) for *sides, size in zip(pads, after, given, strict=True)]
    return with_sizes(op("Pad", x, [*lead, *pads, *lead, *after]), [*sizes(x)[:-count], *map(sum, widths)])


@reads("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d", "aten._adaptive_avg_pool2d")
def adaptive_avg_pool(op: Op, x: ir.Value, output_size: Any) -> ir.Value:
    return _adaptive(op, "Average", x, output_size)


@reads("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.adaptive_max_pool3d")
def adaptive_max_pool(op: Op, x: ir.Value, output_size: Any) -> list[ir.Value | None]:
    """The values only; the indices are None, so that a use of them is refused."""
    return [_adaptive(op, "Max", x, output_size), None]


def _adaptive(op: Op, kind: str, x: ir.Value, output_size: Any) -> ir.Value:
    """Windows of equal size are one pool. Others are taken along one axis after the other: by a product with their
    weights, or where there are none, one by one."""
    count = _count(op)
    output = each(output_size, count)
    kernel = _equal_windows(op, x, output)
    if kernel is not None:
        return batched(op, x, count, lambda value: _of_equal_windows(op, kind, value, kernel))
    for axis, out in zip(range(rank(x) - count, rank(x)), output, strict=True):
        size = sizes(x)[axis]
        if size != out and kind == "Average" and isinstance(size, int):
            x = _weighted_windows(op, x, axis, size, out)
        elif size != out:
            x = _each_window(op, "ReduceMean" if kind == "Average" else "ReduceMax", x, axis, size, out)
    return x


def _of_equal_windows(op: Op, kind: str, x: ir.Value, kernel: list[int]) -> ir.Value:
    if not kernel:
        return op(f"Global{kind}Pool", x)
    return op(f"{kind}Pool", x, kernel_shape=kernel, strides=kernel)


def _equal_windows(op: Op, x: ir.Value, output: list[Any]) -> list[int] | None:
    """The window of adaptive pooling if all are equal ([] for the whole axis), else None."""
    given = sizes(x)[-len(output) :]
    if all(o == 1 for o in output):
        return []
    if not all(isinstance(s, int) for s in given):
        return [1] * len(output) if given == output else None
    if any(size % out for size, out in zip(given, output, strict=True)):
        return None
    return [size // out for size, out in zip(given, output, strict=True)]


def windows(size: Size, out: int) -> list[tuple[Size, Size]]:
    """(start, end) of the windows of adaptive pooling: floor(i * size / out) to ceil((i + 1) * size / out)."""
    return [(quotient(i * size, out), quotient((i + 1) * size + out - 1, out)) for i in range(out)]


def _each_window(op: Op, reduction: str, x: ir.Value, axis: int, size: Size, out: int) -> ir.Value:
    """The windows along an axis, one by one, as their lengths may differ."""
    if out == 1:
        return with_sizes(op(reduction, x, [axis], keepdims=1), [*sizes(x)[:axis], 1, *sizes(x)[axis + 1 :]])
    parts = [op(reduction, op.slice(x, axis, start, end), [axis], keepdims=1) for start, end in windows(size, out)]
    shape = [*sizes(x)[:axis], out, *sizes(x)[axis + 1 :]]
    return with_sizes(op("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0], shape)


def _weighted_windows(op: Op, x: ir.Value, axis: int, size: int, out: int) -> ir.Value:
    weights = np.zeros((size, out))
    for i, (start, end) in enumerate(windows(size, out)):
        weights[start:end, i] = 1 / (end - start)
    last = rank(x) - 1
    turned = op.swap(x, axis, last)
    made = op("MatMul", turned, op.constant(weights, x.dtype))
    return op.swap(with_sizes(made, [*sizes(turned)[:-1], out]), axis, last)


@reads("aten.max_unpool2d", "aten.max_unpool3d")
def max_unpool(op: Op, x: ir.Value, indices: ir.Value, output_size: Any, *rest: Any) -> ir.Value:
    """Unpool each (batch, channel) separately, as PyTorch counts the indices."""
    count = len(output_size)
    if rank(x) != count + 2:
        op.refuse("max_unpool without a batch")
    batch, channels = sizes(x)[:2]
    flat = op.reshape(x, [batch, channels, numel(sizes(x)[2:])])
    where = op.reshape(indices, [batch, channels, numel(sizes(x)[2:])])
    zero = op.filled(0, x.dtype, [batch, channels, numel(output_size)])
    made = op("ScatterElements", zero, where, flat, axis=2)
    return op.reshape(made, op.sizes)
