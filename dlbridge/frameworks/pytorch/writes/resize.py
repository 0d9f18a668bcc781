"""Resize and the ops that sample images at points."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import ints, rules
from dlbridge.frameworks.pytorch.writes.arrays import TORCH
from dlbridge.source.arrays.resize import asked, formula_options, stretches, target_options
from dlbridge.source.code import Code, call
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.windows import one_or_all


@rules("Resize", "Upsample")
def resize(op: Op) -> Emit | Code:
    axes, scales, sizes = asked(op, TORCH)
    plain = _interpolate(op, axes, scales, sizes)
    if plain is not None:
        return Emit(
            call("F.interpolate", op.x, **plain),
            module=Layer(call("nn.Upsample", **plain)),
        )
    if scales is None and sizes is None:
        scales = TORCH.listed(op[2])
    return call("resize", op.x, **target_options(op, axes, scales, sizes), **formula_options(op, TORCH))


def _interpolate(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> dict[str, Any] | None:
    """The arguments with which F.interpolate computes the node; None when none do."""
    count = op.rank() - 2
    if count not in (1, 2, 3) or not op.dtype().is_floating_point() or (scales is None and not isinstance(sizes, list)):
        return None
    smooth = bool(op.attr("antialias"))  # PyTorch's leaves out what is outside, its cubic has a = -0.5
    if smooth != bool(op.attr("exclude_outside")) or not stretches(op):
        return None
    centred = op.attr("mode") != "nearest" and op.attr("coordinate_transformation_mode") == "half_pixel"
    if smooth and not (count == 2 and centred):
        return None
    shape = op.shape() or []
    target: dict[int, Any] = dict(zip(axes, scales if scales is not None else sizes, strict=True))
    grown = op.out_shape() or [None] * op.rank()
    for axis in (0, 1):
        same = scales is None and shape[axis] is not None and grown[axis] == shape[axis]
        if axis in target and target.pop(axis) != (1 if scales is not None else shape[axis]) and not same:
            return None
    full = [target.get(a, 1.0 if scales is not None else op.dim(0, a)) for a in range(2, op.rank())]
    mode = _mode(op, full if scales is not None else None, full if scales is None else None)
    if mode is None:
        return None
    mode |= {"antialias": True} if smooth else {}
    if scales is None:
        return {"size": one_or_all(full) if all(isinstance(s, int) for s in full) else tuple(full), **mode}
    whole = [int(s) if float(s).is_integer() else s for s in full]
    return {"scale_factor": one_or_all(whole), **mode}


def _mode(op: Op, scales: list[float] | None, sizes: list[Any] | None) -> dict[str, Any] | None:
    """mode and align_corners of F.interpolate."""
    mode, coordinates = op.attr("mode"), op.attr("coordinate_transformation_mode")
    shape = (op.shape() or [])[2:]
    pairs = zip(scales or [], shape, strict=sizes is None)
    exact = all(isinstance(d, int) and float(s * d).is_integer() for s, d in pairs)
    whole = scales is not None and all(float(s).is_integer() for s in scales)
    if mode == "nearest":
        rounding = op.attr("nearest_mode")
        if coordinates == "asymmetric" and (rounding == "floor" or _rounds_down(rounding, scales)):
            return {}
        if coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round"):
            if whole:
                return {}
            if rounding == "round_prefer_ceil" and coordinates == "half_pixel":
                return {"mode": "nearest-exact"}
        return None
    name = {"linear": ("linear", "bilinear", "trilinear")[len(shape) - 1], "cubic": "bicubic"}[mode]
    usual = -0.5 if op.attr("antialias") else -0.75
    if mode == "cubic" and (len(shape) != 2 or op.attr("cubic_coeff_a") != usual):
        return None
    if coordinates == "align_corners":
        return {"mode": name, "align_corners": True} if exact or whole else None
    if coordinates == "pytorch_half_pixel" and not _more_than_one(op):
        return None
    if coordinates == "half_pixel_symmetric" and not (exact or whole):
        return None
    known = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    return {"mode": name} if coordinates in known else None


def _rounds_down(rounding: str, scales: list[float] | None) -> bool:
    """Whether rounding i / scale to the nearest is the floor: for scales 1 and 2, where ties go down."""
    return rounding == "round_prefer_floor" and scales is not None and all(s in (1, 2) for s in scales)


def _more_than_one(op: Op) -> bool:
    return all(isinstance(d, int) and d > 1 for d in (op.out_shape() or [None])[2:])


@rules("GridSample")
def grid_sample(op: Op) -> Code:
    mode = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}[op.attr("mode")]
    keywords: dict[str, Any] = {} if mode == "bilinear" else {"mode": mode}
    padding = op.attr("padding_mode")
    keywords |= {} if padding == "zeros" else {"padding_mode": padding}
    if op.rank() not in (4, 5) or (mode == "bicubic" and op.rank() == 5):
        op.refuse(f"PyTorch has no {mode} grid sampling of rank {op.rank()}")
    return call("F.grid_sample", op.x, op[1], **keywords, align_corners=bool(op.attr("align_corners")))


@rules("AffineGrid")
def affine_grid(op: Op) -> Code:
    size = ints(op, 1)
    return call("F.affine_grid", op.x, size, align_corners=bool(op.attr("align_corners")))


@rules("RoiAlign")
def roi_align(op: Op) -> Code:
    keywords = {
        k: op.attr(k)
        for k, usual in (("output_height", 1), ("output_width", 1), ("sampling_ratio", 0), ("spatial_scale", 1.0))
        if op.attr(k) != usual
    }
    keywords |= {"mode": "max"} if op.attr("mode") == "max" else {}
    keywords |= {"half_pixel": False} if op.attr("coordinate_transformation_mode") == "output_half_pixel" else {}
    return call("roi_align", op.x, op[1], op[2], **keywords)
