"""Upgrade rules for ops whose meaning, or whose name, has changed."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.passes.rewriter import Site
from dlbridge.passes.upgrade.registry import CannotUpgradeError, rule


@rule("Softmax", "LogSoftmax", "Hardmax", below=13)
def _softmax(site: Site) -> None:
    """Before 13 the input was made two-dimensional at ``axis`` (1 unless given) and all of the rest normalised."""
    axis, shape = site.get("axis", 1), site.operand(0).shape
    if shape is not None:
        axis = axis % len(shape)
        if axis == len(shape) - 1 or all(size == 1 for size in shape[axis + 1 :]):
            site.set(axis=-1 if axis == len(shape) - 1 else axis)
            return
    site.set(axis=-1)
    sizes = site.op("Shape", "shape", [site.input(0)])
    site.set_input(0, site.op("Flatten", "flat", [site.input(0)], axis=axis))
    site.then("Reshape", "restore", [sizes])


@rule("BatchNormalization", below=9)
def _batch_norm_spatial(site: Site) -> None:
    shape = site.operand(0).shape
    if site.take("spatial", 1) == 0 and (shape is None or len(shape) > 2):
        raise CannotUpgradeError("spatial=0 normalises each position on its own")


@rule("Upsample", below=9)
def _upsample_scales(site: Site) -> None:
    site.set_inputs(site.input(0), site.constant("scales", list(site.take("scales")), ir.DataType.FLOAT))


@rule("Upsample", below=10)
def _upsample(site: Site) -> None:
    """It only enlarges, so that nearest takes the position below whatever the scales are."""
    mode = site.get("mode", "nearest")
    site.set_op("Resize")
    site.set(mode="linear" if mode == "bilinear" else mode, nearest_mode="floor")


@rule("Resize", below=11)
def _resize_10(site: Site) -> None:
    """Before 11 positions were x / scale; nearest took the one below when enlarging, the one above when shrinking."""
    scales = site.known(1)
    site.set_inputs(site.input(0), None, site.input(1))
    site.set(coordinate_transformation_mode="asymmetric")
    if site.get("mode", "nearest") != "nearest" or "nearest_mode" in site.node.attributes:
        return
    if scales is None or ((scales < 1).any() and (scales > 1).any()):
        raise CannotUpgradeError("nearest resizing by scales that are not known or of both kinds rounds either way")
    site.set(nearest_mode="ceil" if (scales < 1).any() else "floor")


@rule("Resize", below=traits.IR_OPSET + 1)
def _resize_of_tensorflow(site: Site) -> None:
    if site.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        # floor((x + 0.5) / scale) is what half_pixel gives when x.5 rounds up
        if site.get("mode", "nearest") != "nearest" or site.get("nearest_mode", "round_prefer_floor") != "floor":
            raise CannotUpgradeError("tf_half_pixel_for_nn is known for nearest_mode=floor alone")
        site.set(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")


@rule("Resize", below=traits.IR_OPSET + 1)
def _resize_unused(site: Site) -> None:
    """Drop what is not used: up to 12 it had to be an empty tensor, and exporters go on giving one."""
    crops = site.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    for slot in (1, 2):
        numbers = site.known(slot)
        is_unused = (slot == 1 and not crops) or (numbers is not None and numbers.size == 0)
        if is_unused and site.input(slot) is not None:
            site.set_input(slot, None)


@rule("Scatter", below=11)
def _scatter(site: Site) -> None:
    site.set_op("ScatterElements")


@rule("RoiAlign", below=16)
def _roi_align(site: Site) -> None:
    site.set(coordinate_transformation_mode="output_half_pixel")


@rule("GridSample", below=20)
def _grid_sample(site: Site) -> None:
    mode = site.get("mode", "bilinear")
    site.set(mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


@rule("GroupNormalization", below=21)
def _group_norm(site: Site) -> None:
    """Before 21 scale and bias were one number a group; now one a channel."""
    channels, groups = site.static_size(0, 1), site.get("num_groups")
    if channels is None:
        raise CannotUpgradeError("the number of channels is not known")
    if channels == groups:
        return
    column, row = site.constant("column", [groups, 1]), site.constant("channels", [channels])
    times = site.constant("times", [groups, channels // groups])
    for slot, name in ((1, "scale"), (2, "bias")):
        wide = site.op(
            "Expand", f"{name}_wide", [site.op("Reshape", f"{name}_column", [site.input(slot), column]), times]
        )
        site.set_input(slot, site.op("Reshape", f"{name}_channels", [wide, row]))
