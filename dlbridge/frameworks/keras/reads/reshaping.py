"""Layers that move, cut and pad."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.call_site import CallSite, layer


@layer("Flatten")
def flatten(site: CallSite) -> Any:
    x = site.x
    if site.layer.data_format == "channels_first" and site.rank(x) > 2:
        x = site.last(x, "channels_last")
    return site.layer_op("Flatten", x, axis=1)


@layer("Reshape")
def reshape(site: CallSite) -> Any:
    return site.layer_op("Reshape", site.x, [0, *(int(s) for s in site.layer.target_shape)])


@layer("Permute")
def permute(site: CallSite) -> Any:
    return site.layer_op("Transpose", site.x, perm=[0, *site.layer.dims])


@layer("RepeatVector")
def repeat_vector(site: CallSite) -> Any:
    return site.layer_op("Tile", site.unsqueeze(site.x, 1), [1, int(site.layer.n), 1])


def _spatial(data_format: str, rank: int) -> list[int]:
    return list(range(2, rank)) if data_format == "channels_first" else list(range(1, rank - 1))


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(site: CallSite) -> Any:
    amounts = [site.layer.padding] if site.rank() == 3 else site.layer.padding
    return pad(site, site.x, _spatial(site.layer.data_format, site.rank()), amounts)


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


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(site: CallSite) -> Any:
    amounts = [site.layer.cropping] if site.rank() == 3 else site.layer.cropping
    data_format = getattr(site.layer, "data_format", "channels_last")
    axes = _spatial(data_format, site.rank())
    edge = np.iinfo(np.int64).max
    starts = [int(b) for b, _ in amounts]
    ends = [-int(a) if a else edge for _, a in amounts]
    return site.layer_op("Slice", site.x, starts, ends, axes)


@layer("UpSampling1D", "UpSampling3D")
def repeat_up(site: CallSite) -> Any:
    kind = site.layer
    sizes = [kind.size] if isinstance(kind.size, int) else list(kind.size)
    return nearest(site, site.x, getattr(kind, "data_format", "channels_last"), sizes)


@layer("UpSampling2D")
def up_sampling(site: CallSite) -> Any:
    kind = site.layer
    if kind.interpolation == "nearest":
        return nearest(site, site.x, kind.data_format, list(kind.size))
    from dlbridge.frameworks.keras.reads.image import resize_scales

    return resize_scales(site, site.x, list(kind.size), kind.interpolation, kind.data_format)


def nearest(site: CallSite, x: ir.Value, data_format: str, sizes: list[int]) -> Any:
    """Each element repeated."""
    x = site.first(x, data_format)
    scales = np.array([1, 1, *sizes], np.float32)
    y = site.layer_op(
        "Resize", x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return site.last(y, data_format)
