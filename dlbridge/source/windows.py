"""Windows that slide over spatial axes: strides, dilations and pads of convolutions and pooling, as numbers."""

from __future__ import annotations

from typing import Any

from dlbridge.ops.padding import same_padding
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Default

#: (before, after) along each spatial axis.
Pads = list[tuple[int, int]]


def window(op: Op, kernel: list[int]) -> tuple[list[int], list[int]]:
    """Strides and dilations, which are 1 when not given."""
    ones = [1] * len(kernel)
    return op.attr("strides") or ones, op.attr("dilations") or ones


def pads_of(op: Op, kernel: list[int], first: int = 2) -> Pads | None:
    """The pads along each spatial axis; None for 'same' padding of a size that is known only at run time.

    Args:
        op: A convolution or pooling.
        kernel: Its kernel's size.
        first: The first spatial axis of its input: 2 channels-first, 1 channels-last.
    """
    strides, dilations = window(op, kernel)
    auto = op.attr("auto_pad")
    if auto == "VALID":
        return [(0, 0)] * len(kernel)
    if auto == "NOTSET":
        flat = op.attr("pads") or [0] * 2 * len(kernel)
        return list(zip(flat[: len(kernel)], flat[len(kernel) :], strict=True))
    found: Pads = []
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        total = same_padding((op.shape() or [])[first + axis], k, s, d)
        if total is None:
            return None
        half = total // 2
        found.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    return found


def is_same_upper(op: Op, kernel: list[int], first: int = 2) -> bool:
    """Whether the padding is TensorFlow's 'same': by name, or the same numbers."""
    strides, dilations = window(op, kernel)
    if op.attr("auto_pad") == "SAME_UPPER":
        return True
    pads = pads_of(op, kernel, first)
    if pads is None:
        return False
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        total = same_padding((op.shape() or [])[first + axis], k, s, d)
        if total is None or pads[axis] != (total // 2, total - total // 2):
            return False
    return True


def one_or_all(sizes: list[int]) -> Any:
    """``3`` for ``[3, 3]``; a tuple where they differ."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def options(**given: tuple[list[int], int]) -> dict[str, Any]:
    """Keywords with what is their default along every axis: ``strides=([2, 2], 1)`` is printed as ``strides=2``."""
    return {name: Default(one_or_all(v), default) for name, (v, default) in given.items()}


def transposed_pads(op: Op, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]) -> Pads:
    """How much is cut off around the result of a channels-last transposed convolution (``extra`` is added behind)."""
    pads = transposed_pads_of(op, kernel, strides, dilations, extra, first=1)
    if pads is None:
        op.refuse("'output_shape' needs a size that is known")
    return pads  # type: ignore[return-value]


def transposed_pads_of(
    op: Op, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int], first: int = 2
) -> Pads | None:
    """How much is cut off around the result of a transposed convolution.

    Args:
        op: The convolution.
        kernel: Its kernel's size.
        strides, dilations: How far windows, and elements in a window, are apart.
        extra: What is added behind, along each axis.
        first: The first spatial axis of its input, as in ``pads_of``.

    Returns:
        None where it follows from an output shape and from sizes that are known only at run time.
    """
    auto, shape = op.attr("auto_pad"), op.attr("output_shape")
    if not shape and auto in ("NOTSET", "VALID"):
        return pads_of(op, kernel, first)
    found: Pads = []
    for axis, (k, s, d, more) in enumerate(zip(kernel, strides, dilations, extra, strict=True)):
        total = (k - 1) * d + 1 - s + more
        if shape:
            size = (op.shape() or [])[first + axis]
            if not isinstance(size, int):
                return None
            total += size * s - shape[axis - len(kernel)]
        half = total // 2
        found.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    return found
