"""Images: resizing, cropping, colour."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.keras.graph.call_site import END, CallSite, operation
from dlbridge.frameworks.keras.reads.convolution import many, window
from dlbridge.frameworks.keras.reads.reshaping import pad

#: Keras' interpolation -> ONNX' mode and further attributes. Keras' cubic has a = -0.5 (Keys), and excludes positions
#: beyond the edge.
_MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}


def resize_to(
    site: CallSite, x: ir.Value, size: list[int], interpolation: str, data_format: str, antialias: bool = False
) -> Any:
    """Resize an image or a batch of images."""
    if interpolation not in _MODES:
        site.refuse(f"the interpolation '{interpolation}'")
    if not x.dtype.is_floating_point() and interpolation != "nearest":
        site.refuse("resizing whole numbers")
    attributes = _MODES[interpolation] | {"coordinate_transformation_mode": "half_pixel"}
    if interpolation == "bicubic" and not antialias:
        _tell_of_table(site, x, size, data_format)
    if antialias and interpolation != "nearest":
        attributes |= {"antialias": 1, "exclude_outside": 1}

    def resized(x: ir.Value) -> ir.Value:
        sizes = site.op("Concat", site.op("Shape", x, end=2), [int(s) for s in size], axis=0)
        if all(isinstance(s, int) for s in site.shape(x)[2:]):
            scales = [s / old for s, old in zip(size, site.shape(x)[2:], strict=True)]
            exact = all(float(np.float32(f)) == f for f in scales)
            whole = all(f == int(f) or 1 / f == int(1 / f) for f in scales)
            if exact and whole:  # the same, and the sizes of the batch need not be asked for
                return site.layer_op("Resize", x, None, np.array([1, 1, *scales], np.float32), **attributes)
        return site.layer_op("Resize", x, None, None, sizes, **attributes)

    return of_batch(site, x, data_format, resized)


def _tell_of_table(site: CallSite, x: ir.Value, size: Sequence[int], data_format: str) -> None:
    """Warn where TensorFlow's weights of bicubic interpolation are others than the formula's.

    It has them in a table, of places in steps of 1/1024 of a pixel.
    """
    found = [site.shape(x)[axis] for axis in _axes(site, x, data_format)]
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


def of_batch(
    site: CallSite, x: ir.Value, data_format: str, function: Callable[[ir.Value], ir.Value], count: int = 2
) -> ir.Value:
    """What a function makes of a batch of images with the channels first, for a batch or one image in this layout.

    Args:
        site: The call.
        x: The images.
        data_format: Their layout.
        function: What is made of them.
        count: How many axes an image has beside the channels.
    """
    single = site.rank(x) == count + 1
    y = site.last(function(site.first(site.unsqueeze(x, 0) if single else x, data_format)), data_format)
    return site.squeeze(y, 0) if single else y


@operation("Resize")
def resize(site: CallSite, images: Any) -> ir.Value:
    return resize_as(site, site.source, site.tensor(images), list(site.source.size), site.data_format)


def resize_as(site: CallSite, kind: Any, x: ir.Value, size: list[int], data_format: str) -> ir.Value:
    """Resize an image or a batch of images as an operation, or a layer, has it: cut or padded to the ratio first."""
    if kind.crop_to_aspect_ratio:
        x = _cropped(site, x, size, data_format)
    elif kind.pad_to_aspect_ratio:
        x = _padded(site, x, size, data_format, kind.fill_value)
    return resize_to(site, x, size, kind.interpolation, data_format, kind.antialias)


def _cropped(site: CallSite, x: ir.Value, size: Sequence[int], data_format: str) -> ir.Value:
    """The middle of an image, in the ratio of a size."""
    axes, found, fitting = _fitting(site, x, size, data_format)
    kept = [max(min(old, new), 1) for old, new in zip(found, fitting, strict=True)]
    starts = [(old - new) // 2 for old, new in zip(found, kept, strict=True)]
    return site.op("Slice", x, starts, [a + n for a, n in zip(starts, kept, strict=True)], axes)


def _padded(site: CallSite, x: ir.Value, size: Sequence[int], data_format: str, fill: float) -> ir.Value:
    """An image with as much on either side as its ratio lacks of that of a size."""
    axes, found, fitting = _fitting(site, x, size, data_format)
    amounts = [(max(old, new) - old) // 2 for old, new in zip(found, fitting, strict=True)]
    return pad(site, x, axes, [(n, n) for n in amounts], value=fill)


def _fitting(
    site: CallSite, x: ir.Value, size: Sequence[int], data_format: str
) -> tuple[list[int], list[int], list[int]]:
    """(axes of height and width, these sizes, those that go with the other one in the ratio of a size).

    Keras divides in float32, and cuts off what is behind the point.
    """
    axes = list(_axes(site, x, data_format))
    found = [site.shape(x)[axis] for axis in axes]
    site.require(found, "resizing to the aspect ratio of an image whose size is not known")
    fitting = [int(np.float32(found[1 - i] * size[i]) / np.float32(size[1 - i])) for i in (0, 1)]
    return axes, found, fitting


def _axes(site: CallSite, x: ir.Value, data_format: str) -> tuple[int, int]:
    """The axes of height and width."""
    rank = site.rank(x)
    return (rank - 3, rank - 2) if data_format == "channels_last" else (rank - 2, rank - 1)


@operation("PadImages", "CropImages")
def pad_or_crop(site: CallSite, images: Any) -> ir.Value:
    kind, x = site.source, site.tensor(images)
    crops = site.operation == "CropImages"
    word = "cropping" if crops else "padding"
    axes = _axes(site, x, site.data_format)
    amounts = []
    for axis, names, target in zip(axes, (("top", "bottom"), ("left", "right")), ("height", "width"), strict=True):
        before, after = (getattr(kind, f"{n}_{word}") for n in names)
        wanted, size = getattr(kind, f"target_{target}"), site.shape(x)[axis]
        if wanted is not None and (before is None or after is None):
            site.require([size], "a target size for an image whose size is not known")
            total = size - wanted if crops else wanted - size
            if before is None:
                before = total - after
            after = total - before
        amounts.append((int(before or 0), int(after or 0)))
    if not crops:
        return pad(site, x, list(axes), amounts)
    ends = [-a if a else END for _, a in amounts]
    return site.op("Slice", x, [b for b, _ in amounts], ends, list(axes))


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


@operation("ExtractPatches")
def extract_patches(site: CallSite, images: Any) -> ir.Value:
    """Extract patches by a convolution that picks each element of the window; channels run fastest."""
    kind, x = site.source, site.tensor(images)
    data_format, size = site.data_format, list(kind.size)
    count = len(size)
    if not x.dtype.is_floating_point():
        site.refuse("patches of whole numbers")
    strides, dilations = many(kind.strides or size, count), many(kind.dilation_rate, count)

    def picked(x: ir.Value) -> ir.Value:
        channels = site.shape(x)[1]
        number = math.prod(size) * channels
        kernel = np.eye(number, dtype=x.dtype.numpy()).reshape(number, *size, channels)
        return site.op("Conv", x, np.moveaxis(kernel, -1, 1), **window(size, strides, dilations, kind.padding))

    return of_batch(site, x, data_format, picked, count)
