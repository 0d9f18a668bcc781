"""Resize by a helper with the standard's formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.source.arrays import ArrayDialect
from dlbridge.source.op import Op


def constant_scales(op: Op) -> list[float] | None:
    """Constant scales as floats; None where sizes are given, or scales are computed."""
    array = op.const(2)
    if op.has(3) or array is None or array.size == 0:
        return None
    return [float(str(s)) for s in array.astype(np.float32)]


def changing(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> tuple[list[int], Any, Any]:
    """The axes whose sizes change, with their scales or sizes."""
    shape, grown = op.shape() or [], op.out_shape() or [None] * op.rank()
    if scales is not None:
        found = [(a, s) for a, s in zip(axes, scales, strict=True) if s != 1]
        return [a for a, _ in found], [s for _, s in found], None
    if not isinstance(sizes, list):
        return axes, None, sizes
    pairs = zip(axes, sizes, strict=True)
    found = [(a, s) for a, s in pairs if s != shape[a] and (shape[a] is None or grown[a] != shape[a])]
    return [a for a, _ in found], None, [s for _, s in found]


def target_options(op: Op, axes: list[int], scales: Any, sizes: Any) -> dict[str, Any]:
    """The helper's keywords that say to what is resized, and along which axes."""
    keywords: dict[str, Any] = {"scales": scales} if sizes is None else {"sizes": sizes}
    return keywords | ({} if axes == list(range(op.rank())) else {"axes": axes})


def formula_options(op: Op, arrays: ArrayDialect) -> dict[str, Any]:
    """The helper's keywords that say by which formula."""
    mode, coordinates = op.attr("mode"), op.attr("coordinate_transformation_mode")
    keywords: dict[str, Any] = {}
    defaults: dict[str, tuple[Any, Any]] = {"mode": (mode, "nearest"), "coordinates": (coordinates, "half_pixel")}
    if mode == "nearest":
        defaults["rounding"] = (op.attr("nearest_mode"), "round_prefer_floor")
    if mode == "cubic":
        defaults["a"] = (op.attr("cubic_coeff_a"), -0.75)
    if coordinates == "tf_crop_and_resize":
        roi = op.const(1)
        keywords["roi"] = arrays.listed(op[1]) if roi is None else roi.tolist()
        defaults["outside"] = (op.attr("extrapolation_value"), 0.0)
    defaults["policy"] = (op.attr("keep_aspect_ratio_policy"), "stretch")
    keywords |= {k: v for k, (v, usual) in defaults.items() if v != usual}
    return keywords | {k: True for k in ("exclude_outside", "antialias") if op.attr(k)}
