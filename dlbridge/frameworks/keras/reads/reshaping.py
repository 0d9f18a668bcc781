"""Layers that move, cut and pad."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, layer


@layer("Flatten")
def flatten(site: CallSite) -> Any:
    x = site.x
    if site.layer.data_format == "channels_first" and site.rank(x) > 2:
        x = site.last(x, "channels_last")
    return site.layer_op("Flatten", x, axis=1)


@layer("RepeatVector")
def repeat_vector(site: CallSite) -> Any:
    return site.layer_op("Tile", site.unsqueeze(site.x, 1), [1, int(site.layer.n), 1])


def pad(
    site: CallSite, x: ir.Value, axes: list[int], amounts: Any, value: float | int = 0, mode: str = "constant"
) -> Any:
    """Pad axes by (before, after)."""
    whole = [(0, 0)] * site.rank(x)
    for axis, (before, after) in zip(axes, amounts, strict=True):
        whole[axis] = (int(before), int(after))
    pads = [*(b for b, _ in whole), *(a for _, a in whole)]
    fill = [site.build.value(value, x.dtype)] if mode == "constant" and value else []
    return site.op("Pad", x, pads, *fill, mode=None if mode == "constant" else mode)


@layer("UpSampling1D", "UpSampling3D")
def repeat_up(site: CallSite) -> Any:
    kind = site.layer
    sizes = [kind.size] if isinstance(kind.size, int) else list(kind.size)
    return nearest(site, site.x, getattr(kind, "data_format", "channels_last"), sizes)


@layer("UpSampling2D")
def up_sampling(site: CallSite) -> Any:
    kind = site.layer
    if kind.interpolation != "nearest":
        return site.reader.inline(site)
    return nearest(site, site.x, kind.data_format, list(kind.size))


def nearest(site: CallSite, x: ir.Value, data_format: str, sizes: list[int]) -> Any:
    """Each element repeated."""
    x = site.first(x, data_format)
    scales = np.array([1, 1, *sizes], np.float32)
    y = site.layer_op(
        "Resize", x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return site.last(y, data_format)
