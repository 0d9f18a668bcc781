"""Images: resizing, cropping, colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.reads.activation import as_float
from dlbridge.frameworks.keras.reads.reshaping import pad
from dlbridge.frameworks.keras.site import Site, operation

#: Keras' interpolation -> the standard's mode and what else it asks for. Keras' cubic is Keys' with a = -0.5, and
#: leaves out what is beyond the edge.
_MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}


def resize_to(
    site: Site, x: ir.Value, size: list[int], interpolation: str, data_format: str, antialias: bool = False
) -> Any:
    """An image, or a batch of images, of another size."""
    if interpolation not in _MODES:
        site.refuse(f"the interpolation '{interpolation}'")
    if not x.dtype.is_floating_point() and interpolation != "nearest":
        site.refuse("resizing whole numbers")
    single = site.rank(x) == 3
    x = site.first(site.unsqueeze(x, 0) if single else x, data_format)
    attributes = _MODES[interpolation] | {"coordinate_transformation_mode": "half_pixel"}
    if antialias and interpolation != "nearest":
        attributes["antialias"] = 1
    sizes = site.op("Concat", site.op("Shape", x, end=2), [int(s) for s in size], axis=0)
    if all(isinstance(s, int) for s in site.shape(x)[2:]):
        scales = [s / old for s, old in zip(size, site.shape(x)[2:], strict=True)]
        exact = all(int(old * np.float32(f)) == s for s, old, f in zip(size, site.shape(x)[2:], scales, strict=True))
        whole = all(f == int(f) or 1 / f == int(1 / f) for f in scales)
        if exact and whole:  # the same, and the sizes of the batch need not be asked for
            y = site.main("Resize", x, None, np.array([1, 1, *scales], np.float32), **attributes)
            return _out(site, y, data_format, single)
    return _out(site, site.main("Resize", x, None, None, sizes, **attributes), data_format, single)


def _out(site: Site, y: ir.Value, data_format: str, single: bool) -> ir.Value:
    y = site.last(y, data_format)
    return site.squeeze(y, 0) if single else y


def resize_scales(site: Site, x: ir.Value, factors: list[int], interpolation: str, data_format: str) -> Any:
    """An image made larger by whole factors."""
    if interpolation not in _MODES:
        site.refuse(f"the interpolation '{interpolation}'")
    x = site.first(x, data_format)
    attributes = _MODES[interpolation] | {"coordinate_transformation_mode": "half_pixel"}
    y = site.main("Resize", x, None, np.array([1, 1, *factors], np.float32), **attributes)
    return site.last(y, data_format)


@operation("Resize")
def resize(site: Site, images: Any) -> ir.Value:
    kind = site.source
    if kind.crop_to_aspect_ratio or kind.pad_to_aspect_ratio:
        site.refuse("resizing that crops or pads to the aspect ratio")
    return resize_to(site, site.tensor(images), list(kind.size), kind.interpolation, _format(kind), kind.antialias)


def _format(kind: Any) -> str:
    import keras

    return kind.data_format or keras.config.image_data_format()


def _axes(site: Site, x: ir.Value, data_format: str) -> tuple[int, int]:
    """The axes of height and width."""
    rank = site.rank(x)
    return (rank - 3, rank - 2) if data_format == "channels_last" else (rank - 2, rank - 1)


@operation("PadImages", "CropImages")
def pad_or_crop(site: Site, images: Any) -> ir.Value:
    kind, x = site.source, site.tensor(images)
    crops = type(kind).__name__ == "CropImages"
    word = "cropping" if crops else "padding"
    axes = _axes(site, x, _format(kind))
    amounts = []
    for axis, names, target in zip(axes, (("top", "bottom"), ("left", "right")), ("height", "width"), strict=True):
        before, after = (getattr(kind, f"{n}_{word}") for n in names)
        wanted, size = getattr(kind, f"target_{target}"), site.shape(x)[axis]
        if wanted is not None and (before is None or after is None):
            if not isinstance(size, int):
                site.refuse("a target size for an image whose size is not known")
            total = size - wanted if crops else wanted - size
            before = total - after if before is None else before
            after = total - before
        amounts.append((int(before or 0), int(after or 0)))
    if not crops:
        return pad(site, x, list(axes), amounts)
    ends = [-a if a else np.iinfo(np.int64).max for _, a in amounts]
    return site.op("Slice", x, [b for b, _ in amounts], ends, list(axes))


@operation("RGBToGrayscale")
def grayscale(site: Site, images: Any) -> ir.Value:
    x = site.tensor(images)
    axis = site.rank(x) - (1 if _format(site.source) == "channels_last" else 3)
    if site.shape(x)[axis] == 1:
        return x
    shape = [1] * site.rank(x)
    shape[axis] = 3
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32).reshape(shape)
    x = as_float(site, x)
    return site.op("ReduceSum", site.op("Mul", x, weights.astype(x.dtype.numpy())), [axis])


@operation("ExtractPatches")
def extract_patches(site: Site, images: Any) -> ir.Value:
    """A convolution with a kernel that picks each element of the window: channels run fastest."""
    from dlbridge.frameworks.keras.reads.convolution import window

    kind, x = site.source, site.tensor(images)
    data_format = _format(kind)
    single = site.rank(x) == 3
    x = site.first(site.unsqueeze(x, 0) if single else x, data_format)
    size = [kind.size, kind.size] if isinstance(kind.size, int) else list(kind.size)
    if len(size) != 2:
        site.refuse("patches of volumes")
    strides = kind.strides or size
    strides = [strides] * 2 if isinstance(strides, int) else list(strides)
    dilations = [kind.dilation_rate] * 2 if isinstance(kind.dilation_rate, int) else list(kind.dilation_rate)
    channels = site.shape(x)[1]
    count = size[0] * size[1] * channels
    kernel = np.eye(count, dtype=x.dtype.numpy()).reshape(count, *size, channels).transpose(0, 3, 1, 2)
    y = site.op("Conv", x, np.ascontiguousarray(kernel), **window(size, strides, dilations, kind.padding))
    return _out(site, y, data_format, single)
