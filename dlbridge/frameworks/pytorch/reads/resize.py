"""Resizing and sampling of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads


def _resize(
    op: Op, x: ir.Value, size: Any, scales: Any, *, mode: str, transform: str, antialias: bool = False
) -> ir.Value:
    """Resize by factors if the user gave factors, else to sizes."""
    extra: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":  # torch rounds halves up in the one, always down in the other
        extra["nearest_mode"] = "floor" if transform == "asymmetric" else "round_prefer_ceil"
    extra |= {"cubic_coeff_a": -0.5 if antialias else -0.75} if mode == "cubic" else {}
    extra |= {"antialias": 1, "exclude_outside": 1} if antialias else {}
    target = size or op.sizes[2:]
    if transform != "align_corners" and scales and all(isinstance(s, (int, float)) for s in scales):
        factors = [float(s) for s in scales]  # align_corners goes by the sizes that come out
    elif antialias:
        factors = None
    else:
        factors = _factors(sizes(x)[2:], target)
    if factors is None:
        return op("Resize", x, None, None, [*sizes(x)[:2], *target], **extra)
    return op("Resize", x, None, op.constant([1.0, 1.0, *factors], ir.DataType.FLOAT), **extra)


def _factors(have: list[Any], wanted: list[Any]) -> list[float] | None:
    """The factors between sizes that are all fixed, with which the batch stays free; None where they do not give them
    exactly."""
    if not all(isinstance(size, int) for size in (*have, *wanted)):
        return None
    factors = [after / before for before, after in zip(have, wanted, strict=True)]
    return factors if all(map(_gives, factors, have, wanted)) else None


def _gives(factor: float, have: int, wanted: int) -> bool:
    """Whether a factor in float32 makes a size of another, both in the float32 of onnxruntime and exactly."""
    single = np.float32(factor)
    return int(np.float32(have) * single) == wanted == int(have * float(single))


def _given(op: Op, args: tuple[Any, ...]) -> tuple[Any, Any]:
    """(output size, factors) of the overloads ``vec`` and the plain one."""
    size = args[0]
    factors = args[1] if len(args) > 1 else None
    if len(args) > 1 and not isinstance(args[1], (list, tuple)):
        factors = [s for s in args[1:] if s is not None]
    return size, factors


@reads(*(f"aten.upsample_{name}" for name in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")))
@reads("aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa")
def smooth(op: Op, x: ir.Value, size: Any, align_corners: bool, *factors: Any) -> ir.Value:
    mode = "cubic" if "cubic" in op.name else "linear"
    found = _given(op, (size, *factors))
    antialias = op.name.endswith("_aa")
    if antialias and align_corners:
        op.refuse("antialias with align_corners")
    transform = "align_corners" if align_corners else "half_pixel"  # pytorch_half_pixel is PyTorch's of old
    return _resize(op, x, *found, mode=mode, transform=transform, antialias=antialias)


@reads(*(f"aten.{name}{count}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for count in "123"))
def nearest(op: Op, x: ir.Value, size: Any, *factors: Any) -> ir.Value:
    exact = "exact" in op.name
    return _resize(
        op, x, *_given(op, (size, *factors)), mode="nearest", transform="half_pixel" if exact else "asymmetric"
    )


@reads("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def grid_sampler(
    op: Op, x: ir.Value, grid: ir.Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> ir.Value:
    return op(
        "GridSample",
        x,
        grid,
        mode=("linear", "nearest", "cubic")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(align_corners),
    )


@reads("aten.affine_grid_generator")
def affine_grid(op: Op, theta: ir.Value, size: list[Any], align_corners: bool) -> ir.Value:
    return op("AffineGrid", theta, op.ints(size), align_corners=int(align_corners))


@reads("torchvision.roi_align")
def roi_align(
    op: Op,
    x: ir.Value,
    rois: ir.Value,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> ir.Value:
    boxes = op.slice(rois, 1, 1, 5)
    batches = op.cast(op("Gather", rois, 0, axis=1), ir.DataType.INT64)
    return op(
        "RoiAlign",
        x,
        boxes,
        batches,
        spatial_scale=float(spatial_scale),
        output_height=height,
        output_width=width,
        sampling_ratio=max(sampling_ratio, 0),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
