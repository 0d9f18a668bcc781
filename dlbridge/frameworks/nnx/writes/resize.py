"""Resize: repetition where that computes it, else the helper with the standard's formula."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import NNX, ints, rules
from dlbridge.source.arrays.resize import changing, constant_scales, formula_options, target_options
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


@rules("Resize", "Upsample")
def resize(op: Op) -> Code:
    axes = [a % op.rank() for a in op.attr("axes") or range(op.rank())]
    scales: Any = constant_scales(op)
    sizes: Any = ints(op, 3) if op.has(3) else None
    crops = op.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    if op.attr("keep_aspect_ratio_policy") == "stretch" and not crops:
        axes, scales, sizes = changing(op, axes, scales, sizes)
        if not axes:
            return code("{}", op.x)
    if _repeats(op, scales):
        repeated: Any = op.x
        for axis, times in zip(axes, scales, strict=True):
            repeated = call("jnp.repeat", repeated, int(times), axis=axis)
        return repeated
    if scales is None and sizes is None:
        scales = NNX.listed(op[2])
    return call("resize", op.x, **target_options(op, axes, scales, sizes), **formula_options(op, NNX))


def _repeats(op: Op, scales: list[float] | None) -> bool:
    """Whether every element is repeated a whole number of times."""
    if op.attr("mode") != "nearest" or scales is None or not all(s.is_integer() and s > 0 for s in scales):
        return False
    rounding, coordinates = op.attr("nearest_mode"), op.attr("coordinate_transformation_mode")
    if coordinates == "asymmetric":
        return rounding == "floor"
    return coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
