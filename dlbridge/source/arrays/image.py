"""Ops that sample images at points, and pool their regions."""

from __future__ import annotations

from typing import Any

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call

image = Family()


@image("GridSample")
def grid_sample(op: Op, arrays: ArrayDialect) -> Code:
    shape, grid = op.shape() or [None], op.shape(1) or [None]
    usual: dict[str, Any] = {"mode": "linear", "padding_mode": "zeros"}
    keywords = {k.removesuffix("_mode"): op.attr(k) for k, v in usual.items() if op.attr(k) != v}
    if not all(isinstance(d, int) for d in (*shape[1:], *grid[1:])):
        keywords["shapes"] = (arrays.call("shape", op.x), arrays.call("shape", op[1]))
    return call("grid_sample", op.x, op[1], **keywords, align_corners=True if op.attr("align_corners") else None)


@image("AffineGrid")
def affine_grid(op: Op, arrays: ArrayDialect) -> Code:
    return call("affine_grid", op.x, arrays.ints(op, 1), align_corners=True if op.attr("align_corners") else None)


@image("RoiAlign")
def roi_align(op: Op, arrays: ArrayDialect) -> Code:
    size, count = (op.attr("output_height"), op.attr("output_width")), op.attr("sampling_ratio")
    keywords = {k: op.attr(k) for k, usual in (("spatial_scale", 1.0), ("mode", "avg")) if op.attr(k) != usual}
    keywords |= {"half_pixel": False} if op.attr("coordinate_transformation_mode") == "output_half_pixel" else {}
    if count == 0:
        return call("roi_align_by_size", op.x, op[1], op[2], size, **keywords)
    return call("roi_align", op.x, op[1], op[2], size, (count, count), **keywords)


@image("MaxRoiPool")
def max_roi_pool(op: Op, arrays: ArrayDialect) -> Code:
    scale = op.attr("spatial_scale")
    return call(
        "max_roi_pool", op.x, op[1], tuple(op.attr("pooled_shape")), spatial_scale=scale if scale != 1 else None
    )
