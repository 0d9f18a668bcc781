"""Images: resizing, cropping, colour."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.reshaping import pad

#: Keras' interpolation -> ONNX' mode and further attributes. Keras' cubic has a = -0.5 (Keys), and excludes positions
#: beyond the edge.
_MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}


@operation("Resize")
def resize(site: CallSite, images: Any) -> ir.Value:
    """Resize an image or a batch of images, cut or padded to the ratio of the size first if that is asked."""
    kind, x, size = site.source, site.tensor(images), [int(n) for n in site.source.size]
    if kind.interpolation not in _MODES:
        site.refuse(f"the interpolation '{kind.interpolation}'")
    if not x.dtype.is_floating_point() and kind.interpolation != "nearest":
        site.refuse("resizing whole numbers")
    if kind.crop_to_aspect_ratio:
        x = _cropped(site, x, size)
    elif kind.pad_to_aspect_ratio:
        x = _padded(site, x, size)
    attributes = _MODES[kind.interpolation] | {"coordinate_transformation_mode": "half_pixel"}
    if kind.interpolation == "bicubic" and not kind.antialias:
        _tell_of_table(site, x, size)
    if kind.antialias and kind.interpolation != "nearest":
        attributes |= {"antialias": 1, "exclude_outside": 1}

    def resized(x: ir.Value) -> ir.Value:
        if all(isinstance(s, int) for s in site.shape(x)[2:]):
            scales = [s / old for s, old in zip(size, site.shape(x)[2:], strict=True)]
            exact = all(float(np.float32(f)) == f for f in scales)
            whole = all(f == int(f) or 1 / f == int(1 / f) for f in scales)
            if exact and whole:  # the same, and the sizes of the batch need not be asked for
                return site.layer_op("Resize", x, None, np.array([1, 1, *scales], np.float32), **attributes)
        sizes = site.op("Concat", site.op("Shape", x, end=2), size, axis=0)
        return site.layer_op("Resize", x, None, None, sizes, **attributes)

    return of_batch(site, x, site.data_format, resized)


def _tell_of_table(site: CallSite, x: ir.Value, size: list[int]) -> None:
    """Warn where TensorFlow's weights of bicubic interpolation are others than the formula's.

    It has them in a table, of places in steps of 1/1024 of a pixel.
    """
    found = [site.shape(x)[axis] for axis in _axes(site, x)]
    if keras.backend.backend() != "tensorflow" or all(map(_is_in_table, found, size)):
        return
    warnings.warn(
        f"{site.build.path or 'resizing'}: TensorFlow rounds the weights of bicubic interpolation to a table, other "
        "frameworks compute them; the results differ by about a thousandth, which a verification does not pass",
        DlbridgeWarning,
        stacklevel=2,
    )


def _is_in_table(old: Any, new: int) -> bool:
    if not isinstance(old, int):
        return False
    places = ((np.arange(new) + 0.5) * old / new - 0.5) * 1024
    return bool((places == np.round(places)).all())


def of_batch(site: CallSite, x: ir.Value, data_format: str, function: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """What a function makes of a batch of images with the channels first, for a batch or one image in this layout."""
    single = site.rank(x) == 3
    y = site.last(function(site.first(site.unsqueeze(x, 0) if single else x, data_format)), data_format)
    return site.squeeze(y, 0) if single else y


def _cropped(site: CallSite, x: ir.Value, size: list[int]) -> ir.Value:
    """The middle of an image, in the ratio of a size."""
    axes, found, fitting = _fitting(site, x, size)
    kept = [max(min(old, new), 1) for old, new in zip(found, fitting, strict=True)]
    starts = [(old - new) // 2 for old, new in zip(found, kept, strict=True)]
    return site.op("Slice", x, starts, [a + n for a, n in zip(starts, kept, strict=True)], axes)


def _padded(site: CallSite, x: ir.Value, size: list[int]) -> ir.Value:
    """An image with as much on either side as its ratio lacks of that of a size."""
    axes, found, fitting = _fitting(site, x, size)
    amounts = [(max(old, new) - old) // 2 for old, new in zip(found, fitting, strict=True)]
    return pad(site, x, axes, [(n, n) for n in amounts], value=site.source.fill_value)


def _fitting(site: CallSite, x: ir.Value, size: list[int]) -> tuple[list[int], list[int], list[int]]:
    """(axes of height and width, these sizes, those that go with the other one in the ratio of a size).

    Keras divides in float32, and cuts off what is behind the point.
    """
    axes = _axes(site, x)
    found = [site.shape(x)[axis] for axis in axes]
    site.require(found, "resizing to the aspect ratio of an image whose size is not known")
    fitting = [int(np.float32(found[1 - i] * size[i]) / np.float32(size[1 - i])) for i in (0, 1)]
    return axes, found, fitting


def _axes(site: CallSite, x: ir.Value) -> list[int]:
    """The axes of height and width."""
    rank = site.rank(x)
    return [rank - 3, rank - 2] if site.data_format == "channels_last" else [rank - 2, rank - 1]


@operation("RGBToGrayscale", operands=CallSite.tensors)
def grayscale(site: CallSite, x: ir.Value) -> ir.Value:
    axis = _channel_axis(site, x)
    if site.shape(x)[axis] == 1:
        return x
    shape = [1] * site.rank(x)
    shape[axis] = 3
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32).reshape(shape)
    x = site.as_float(x)
    return site.op("ReduceSum", x * weights.astype(x.dtype.numpy()), [axis])


@operation("RGBToHSV", operands=CallSite.tensors)
def rgb_to_hsv(site: CallSite, x: ir.Value) -> ir.Value:
    """As TensorFlow has it: value is the largest channel, and the hue a sixth of a turn for each way to the next."""
    axis = _channel_axis(site, x)
    r, g, b = site.op("Split", x, axis=axis, num_outputs=3, outputs=3)
    value = site.op("Max", r, g, b)
    spread = value - site.op("Min", r, g, b)
    saturation = site.op("Where", site.op("Greater", value, 0.0), spread / value, 0.0)
    sixth = site.op("Reciprocal", spread) * (1 / 6)
    from_red, from_green, from_blue = (sixth * (one - other) for one, other in ((g, b), (b, r), (r, g)))
    from_green, from_blue = from_green + 2 / 6, from_blue + 4 / 6
    hue = site.op("Where", site.op("Equal", g, value), from_green, from_blue)
    hue = site.op("Where", site.op("Equal", r, value), from_red, hue)
    hue = site.op("Where", site.op("Greater", spread, 0.0), hue, 0.0)
    hue = site.op("Where", site.op("Less", hue, 0.0), hue + 1.0, hue)
    return site.op("Concat", hue, saturation, value, axis=axis)


@operation("HSVToRGB", operands=CallSite.tensors)
def hsv_to_rgb(site: CallSite, x: ir.Value) -> ir.Value:
    """((1 - saturation) + saturation * how near the hue is to that of the channel) * value."""
    axis = _channel_axis(site, x)
    hue, saturation, value = site.op("Split", x, axis=axis, num_outputs=3, outputs=3)
    turn, grey = hue * 6.0, 1.0 - saturation
    away = [site.op("Abs", turn - place) for place in (3.0, 2.0, 4.0)]
    near = [away[0] - 1.0, *(2.0 - gap for gap in away[1:])]
    channels = [saturation * site.op("Clip", n, 0.0, 1.0) for n in near]
    return site.op("Concat", *((grey + c) * value for c in channels), axis=axis)


def _channel_axis(site: CallSite, x: ir.Value) -> int:
    return site.rank(x) - (1 if site.data_format == "channels_last" else 3)
