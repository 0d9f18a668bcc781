"""Pooling in ``ceil_mode`` for the standard's reference evaluator, which gives other sizes and means than the standard.

(onnx 1.23: ``MaxPool`` of stride 1 counts its padding twice; ``AveragePool`` counts what lies beyond the padding.) And
``MaxPool`` of floats by whole arrays: the evaluator's own takes seconds for one image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.ops.op_average_pool import AveragePool_19 as _AveragePool
from onnx.reference.ops.op_max_pool import MaxPool as _MaxPool


def ends(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> list[int]:
    """How much more padding the end of each axis takes, so that pooling without ``ceil_mode`` gives its sizes.

    The last window has to begin in the input or in the padding before it.
    """
    found = []
    for axis, size in enumerate(sizes):
        begin, end = pads[axis], pads[axis + len(sizes)]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        windows = -(-(size + begin + end - reach) // strides[axis]) + 1
        if (windows - 1) * strides[axis] >= size + begin:
            windows -= 1
        found.append(max(0, (windows - 1) * strides[axis] + reach - (size + begin + end)))
    return found


class MaxPool(_MaxPool):
    """``MaxPool`` of the standard."""

    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, kernel_shape=None, dilations=None, strides=None, pads=None, **more
    ):  # type: ignore[no-untyped-def]
        if ceil_mode and auto_pad in (None, "NOTSET"):
            pads, ceil_mode = _padded(x, kernel_shape, strides, dilations, pads), 0
        is_plain = not ceil_mode and auto_pad in (None, "NOTSET") and len(self.onnx_node.output) == 1
        if is_plain and x.dtype == np.float64:
            rank = x.ndim - 2
            ones = [1] * rank
            return (_max_pooled(x, kernel_shape, strides or ones, dilations or ones, pads or [0] * 2 * rank),)
        given = {"dilations": dilations, "kernel_shape": kernel_shape, "pads": pads, "strides": strides}
        return super()._run(x, auto_pad=auto_pad, ceil_mode=ceil_mode, **given, **more)


def _max_pooled(
    x: np.ndarray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> np.ndarray:
    """The largest number of each window, by the maximum over the places in a window, for all windows at once."""
    rank = x.ndim - 2
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    padded = np.pad(x, around, constant_values=-np.inf)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reaches, strides, strict=True)]
    largest = np.full((*x.shape[:2], *counts), -np.inf)
    for place in itertools.product(*(range(k) for k in kernel)):
        begins = [p * d for p, d in zip(place, dilations, strict=True)]
        window: list[Any] = [
            ...,
            *(slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(begins, counts, strides, strict=True)),
        ]
        np.maximum(largest, padded[tuple(window)], out=largest)
    return largest


class AveragePool(_AveragePool):
    """``AveragePool`` of the standard."""

    op_domain = ""

    def _run(self, x, ceil_mode=None, count_include_pad=None, pads=None, **more):  # type: ignore[no-untyped-def]
        if ceil_mode and more["auto_pad"] in (None, "NOTSET"):
            given = list(pads or [0] * 2 * (x.ndim - 2))
            pads = _padded(x, more["kernel_shape"], more["strides"], more["dilations"], pads)
            if count_include_pad:
                # the padding counts, what lies beyond it does not: so the padding becomes part of the input
                half = len(given) // 2
                x = np.pad(x, [(0, 0), (0, 0), *zip(given[:half], given[half:], strict=True)])
                pads = [more - before for more, before in zip(pads, given, strict=True)]
            ceil_mode, count_include_pad = 0, 0
        return super()._run(x, ceil_mode=ceil_mode, count_include_pad=count_include_pad, pads=pads, **more)


def _padded(
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
) -> list[int]:
    """The padding with which pooling without ``ceil_mode`` gives the sizes of one with it."""
    rank = x.ndim - 2
    found = list(pads or [0] * (2 * rank))
    ones = [1] * rank
    for axis, more in enumerate(ends(x.shape[2:], kernel, strides or ones, dilations or ones, found)):
        found[axis + rank] += more
    return found
