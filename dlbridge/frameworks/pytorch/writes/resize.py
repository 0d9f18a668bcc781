"""Resize and the ops that sample images at points."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import ints, rules
from dlbridge.frameworks.pytorch.writes.arrays import TORCH
from dlbridge.source.arrays.resize import asked, formula_options, keeps, stretches, target_options
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call
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
    given = scales if scales is not None else sizes
    if not isinstance(given, list) or not _is_for_images(op):
        return None
    by_axis: dict[int, Any] = dict(zip(axes, given, strict=True))
    if not all(_stays(op, axis, by_axis.get(axis), is_scale=scales is not None) for axis in (0, 1)):
        return None
    spatial = range(2, op.rank())
    factors = None if scales is None else [by_axis.get(axis, 1.0) for axis in spatial]
    mode = _mode(op, factors)
    if mode is None:
        return None
    if op.attr("antialias"):
        mode["antialias"] = True
    if factors is not None:
        return {"scale_factor": one_or_all([int(s) if float(s).is_integer() else s for s in factors]), **mode}
    target = [by_axis.get(axis, op.dim(0, axis)) for axis in spatial]
    are_known = all(isinstance(size, int) for size in target)
    return {"size": one_or_all(target) if are_known else tuple(target), **mode}


def _is_for_images(op: Op) -> bool:
    """Whether F.interpolate accepts such tensors, and treats positions outside of them as the node does."""
    count, is_smooth = op.rank() - 2, bool(op.attr("antialias"))
    if count not in (1, 2, 3) or not op.dtype().is_floating_point() or not stretches(op):
        return False
    if is_smooth != bool(op.attr("exclude_outside")):  # its antialiasing leaves out what is outside, nothing else does
        return False
    is_centred = op.attr("mode") != "nearest" and op.attr("coordinate_transformation_mode") == "half_pixel"
    return not is_smooth or (count == 2 and is_centred)


def _stays(op: Op, axis: int, wanted: Any, *, is_scale: bool) -> bool:
    """Whether an axis keeps its size: the node asks for no other size of it, or a scale of 1."""
    if wanted is None:
        return True
    return bool(wanted == 1) if is_scale else keeps(op, axis, wanted)


def _mode(op: Op, scales: list[float] | None) -> dict[str, Any] | None:
    """mode and align_corners of F.interpolate, by scales or to sizes; None where none computes the same."""
    is_whole = scales is not None and all(float(s).is_integer() for s in scales)
    return _nearest(op, scales, is_whole) if op.attr("mode") == "nearest" else _smooth(op, scales, is_whole)


def _nearest(op: Op, scales: list[float] | None, is_whole: bool) -> dict[str, Any] | None:
    coordinates, rounding = op.attr("coordinate_transformation_mode"), op.attr("nearest_mode")
    if coordinates == "asymmetric":
        return {} if rounding == "floor" or _rounds_down(rounding, scales) else None
    if coordinates not in ("half_pixel", "pytorch_half_pixel") or not rounding.startswith("round"):
        return None
    if is_whole:
        return {}
    is_exact = coordinates == "half_pixel" and rounding == "round_prefer_ceil"
    return {"mode": "nearest-exact"} if is_exact else None


def _smooth(op: Op, scales: list[float] | None, is_whole: bool) -> dict[str, Any] | None:
    shape, mode = (op.shape() or [])[2:], op.attr("mode")
    usual = -0.5 if op.attr("antialias") else -0.75
    if mode == "cubic" and (len(shape) != 2 or op.attr("cubic_coeff_a") != usual):
        return None
    name = "bicubic" if mode == "cubic" else ("linear", "bilinear", "trilinear")[len(shape) - 1]
    match op.attr("coordinate_transformation_mode"):
        case "half_pixel":
            return {"mode": name}
        case "pytorch_half_pixel" if _more_than_one(op):
            return {"mode": name}
        case "half_pixel_symmetric" if is_whole or _gives_whole_sizes(scales, shape):
            return {"mode": name}
        case "align_corners" if is_whole or _gives_whole_sizes(scales, shape):
            return {"mode": name, "align_corners": True}
    return None


def _gives_whole_sizes(scales: list[float] | None, shape: list[Any]) -> bool:
    """Whether nothing is rounded: sizes are said, or known ones times the scales are whole."""
    if scales is None:
        return True
    return all(isinstance(d, int) and float(s * d).is_integer() for s, d in zip(scales, shape, strict=True))


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
