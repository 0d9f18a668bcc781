"""Resize by a helper with the standard's formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.source.arrays import ArrayDialect
from dlbridge.source.op import Op
from dlbridge.source.tree.code import code

#: The largest denominator of a scale that is printed as a fraction.
_LARGEST_DENOMINATOR = 64


def constant_scales(op: Op) -> list[float] | None:
    """Constant scales as floats; None where sizes are given, or scales are computed."""
    array = op.const(2)
    if op.has(3) or array is None or array.size == 0:
        return None
    return [float(str(s)) for s in array.astype(np.float32)]


def crops(op: Op) -> bool:
    """Whether it resizes a part of the input."""
    return bool(op.attr("coordinate_transformation_mode") == "tf_crop_and_resize")


def stretches(op: Op) -> bool:
    """Whether each axis gets the size that is asked for, whatever becomes of the aspect ratio."""
    return bool(op.attr("keep_aspect_ratio_policy") == "stretch")


def repeats(op: Op) -> bool:
    """Whether whole scales repeat the elements."""
    if op.attr("mode") != "nearest":
        return False
    coordinates, rounding = op.attr("coordinate_transformation_mode"), op.attr("nearest_mode")
    if coordinates == "asymmetric":
        return bool(rounding == "floor")
    return coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")


def asked(op: Op, arrays: ArrayDialect) -> tuple[list[int], Any, Any]:
    """The axes, and their scales or their sizes, whichever the node states; neither where scales are computed."""
    axes = [a % op.rank() for a in op.attr("axes") or range(op.rank())]
    return axes, constant_scales(op), arrays.ints(op, 3) if op.has(3) else None


def changed(op: Op, arrays: ArrayDialect) -> tuple[list[int], Any, Any]:
    """As :func:`asked`, of the axes whose sizes change; all where the others matter, too."""
    axes, scales, sizes = asked(op, arrays)
    if crops(op) or not stretches(op):
        return axes, scales, sizes
    if scales is not None:
        by_axis: dict[int, Any] = {axis: scale for axis, scale in zip(axes, scales, strict=True) if scale != 1}
        return list(by_axis), list(by_axis.values()), None
    if not isinstance(sizes, list):
        return axes, None, sizes
    by_axis = {axis: size for axis, size in zip(axes, sizes, strict=True) if not keeps(op, axis, size)}
    return list(by_axis), None, list(by_axis.values())


def keeps(op: Op, axis: int, size: Any) -> bool:
    """Whether an axis that is to have a size has it already, by number or by name."""
    have, made = op.shape(), op.out_shape()
    before = None if have is None else have[axis]
    after = None if made is None else made[axis]
    return bool(size == before) or (before is not None and after == before)


def is_between_middles(op: Op, scales: list[float] | None, sizes: Any) -> bool:
    """Whether the elements are read at the middles of the new ones, and the sizes can be said one by one."""
    listed = sizes if isinstance(sizes, list) else []
    coordinates = op.attr("coordinate_transformation_mode")
    if not stretches(op) or (scales is None and not listed):
        return False
    if coordinates == "half_pixel":
        return True
    # PyTorch's formula is another one for the size 1
    grows = scales is not None and all(s.is_integer() and s > 1 for s in scales)
    is_above_one = bool(listed) and all(isinstance(size, int) and size > 1 for size in listed)
    return coordinates == "pytorch_half_pixel" and (grows or is_above_one)


def target_shape(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> list[Any] | None:
    """The sizes of the result, numbers or code; None where a scale is no simple fraction."""
    target: list[Any] = [*op.sizes()]
    for index, axis in enumerate(axes):
        if scales is None:
            target[axis] = sizes[index]
            continue
        times, parts = scales[index].as_integer_ratio()
        if parts > _LARGEST_DENOMINATOR:
            return None
        size = target[axis]
        if isinstance(size, int):
            target[axis] = size * times // parts
            continue
        size = size if times == 1 else code("{} * {}", size, times)
        target[axis] = size if parts == 1 else code("{} // {}", size, parts)
    return target


def is_between_ends(op: Op) -> bool:
    """Whether elements are interpolated linearly, the first and the last of which stay at the ends."""
    plain = not (op.attr("antialias") or op.attr("exclude_outside"))
    aligned = bool(op.attr("coordinate_transformation_mode") == "align_corners")
    return aligned and plain and stretches(op) and bool(op.attr("mode") == "linear")


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
