"""Reads the sums that Keras on TensorFlow mistakes for the addition of a bias.

``keras.ops.add`` looks at the second operand without its axes of size 1. If that is a vector as long as the first
operand's last axis, or its second one, it is added along that axis, whichever axis it lies on: the bias of a
channels-first convolution with 64 filters goes along the width where that is 64 too.
"""

from __future__ import annotations

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite


def bias_axis(x: ir.Value, sizes: tuple[int | None, ...]) -> int | None:
    """The axis of ``x`` along which Keras on TensorFlow adds an operand of these sizes where that is another than the
    one that it lies on; None where it adds as all others do."""
    if keras.backend.backend() != "tensorflow" or x.shape is None or len(x.shape) < 2:
        return None
    places = [(place, size) for place, size in enumerate(sizes) if size != 1]
    if len(places) != 1 or places[0][1] is None:
        return None
    place, length = places[0]
    rank = len(x.shape)
    axis = rank - 1 if x.shape[rank - 1] == length else 1
    own = place + rank - len(sizes)
    return axis if x.shape[axis] == length and own != axis else None


def add(site: CallSite, x: ir.Value, y: ir.Value) -> ir.Value:
    """``keras.ops.add``."""
    sizes = () if y.shape is None else tuple(size if isinstance(size, int) else None for size in y.shape)
    axis = None if getattr(site.source, "is_operator", False) else bias_axis(x, sizes)
    if axis is not None:
        y = site.op("Reshape", y, [-1, *([1] * (site.rank(x) - 1 - axis))])
    return site.op("Add", x, y)
