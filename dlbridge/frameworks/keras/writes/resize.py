"""Resize: Keras' layers where they compute the standard's formula, else a helper that does."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import ints, rules
from dlbridge.frameworks.keras.writes.arrays import KERAS
from dlbridge.source.arrays.resize import changing, constant_scales, formula_options, target_options
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.windows import one_or_all


@rules("Resize", "Upsample")
def resize(op: Op) -> Emit | Code:
    axes = [a % op.rank() for a in op.attr("axes") or range(op.rank())]
    scales: Any = constant_scales(op)
    sizes: Any = ints(op, 3) if op.has(3) else None
    crops = op.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    stretches = op.attr("keep_aspect_ratio_policy") == "stretch"
    if stretches and not crops:
        axes, scales, sizes = changing(op, axes, scales, sizes)
        if not axes:
            return code("{}", op.x)
    plain = _layer(op, axes, scales, sizes) or _upsampling(op, axes, scales)
    if plain is not None:
        return plain
    shape = op.shape() or []
    known = all(isinstance(shape[a], int) for a in axes) and all(isinstance(s, int) for s in _listed(sizes))
    if not known and (crops or not stretches):
        op.refuse("cropping, or keeping the aspect ratio, needs sizes that are known")
    if scales is None and sizes is None:
        scales = KERAS.listed(op[2])
    known_shape = {} if known else {"shape": call("ops.shape", op.x)}
    return call("resize", op.x, **target_options(op, axes, scales, sizes), **known_shape, **formula_options(op, KERAS))


def _upsampling(op: Op, axes: list[int], scales: list[float] | None) -> Emit | None:
    """``UpSampling2D`` by whole scales, whether the sizes and the place of the channels are known or not."""
    if op.rank() != 4 or scales is None or not all(s.is_integer() and s > 1 for s in scales):
        return None
    places = next((found for found in ((1, 2), (2, 3)) if set(axes) <= set(found)), None)
    stretches = op.attr("keep_aspect_ratio_policy") == "stretch"
    if places is None or not stretches or op.attr("exclude_outside"):
        return None
    coordinates = op.attr("coordinate_transformation_mode")
    by_half = coordinates in ("half_pixel", "pytorch_half_pixel")
    if op.attr("mode") == "nearest":
        rounding = op.attr("nearest_mode")
        fits = (by_half and rounding.startswith("round")) or (coordinates == "asymmetric" and rounding == "floor")
        keywords = {}
    else:
        # TensorFlow resizes in float32, and Keras compares the sizes with 0, which TensorFlow's graphs cannot
        is_known = all(isinstance((op.shape() or [])[axis], int) for axis in places)
        fits = is_known and by_half and op.attr("mode") == "linear" and op.dtype() == op.dtype().FLOAT
        keywords = {"interpolation": "bilinear"}
    if not fits:
        return None
    by_axis = dict(zip(axes, scales, strict=True))
    factors = [int(by_axis.get(axis, 1)) for axis in places]
    keywords |= {"data_format": "channels_first"} if places == (2, 3) else {}
    return Emit(call(LAYER, op.x), Layer(call("layers.UpSampling2D", one_or_all(factors), **keywords)))


def _listed(sizes: Any) -> list[Any]:
    """Sizes that are known one by one; none where code reads them from a tensor."""
    return sizes if isinstance(sizes, list) else []


def _layer(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Emit | None:
    """``UpSampling2D`` for whole scales, ``ops.image.resize`` for sizes; channels stand last."""
    stretches = op.attr("keep_aspect_ratio_policy") == "stretch"
    if op.rank() != 4 or not set(axes) <= {1, 2} or op.attr("antialias") or not stretches:
        return None
    given = scales if scales is not None else _listed(sizes)
    if not given or (scales is not None and not all(s.is_integer() for s in scales)):
        return None
    by_axis: dict[int, Any] = dict(zip(axes, given, strict=True))
    mode, coordinates = op.attr("mode"), op.attr("coordinate_transformation_mode")
    factors = [int(by_axis.get(a, 1)) for a in (1, 2)] if scales is not None else []
    if mode == "nearest":
        rounding = op.attr("nearest_mode")
        floors = coordinates == "asymmetric" and rounding == "floor"
        nearest = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
        if scales is None or not (floors or nearest):
            return None
        repeated: Any = op.x
        for axis, times in zip((1, 2), factors, strict=True):
            repeated = call("ops.repeat", repeated, times, axis=axis) if times != 1 else repeated
        return Emit(code("{}", repeated), module=Layer(call("layers.UpSampling2D", one_or_all(factors))))
    shape = [(op.shape() or [])[a] for a in (1, 2)]
    if scales is None:
        target = [by_axis.get(a, d) for a, d in zip((1, 2), shape, strict=True)]
    else:
        target = [d * f if isinstance(d, int) else d for d, f in zip(shape, factors, strict=True)]
    known = [s for s in target if isinstance(s, int)]
    if len(known) < len(target):
        return None  # Keras compares the sizes with 0, which TensorFlow's graphs cannot
    half_pixel = coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and min(known) > 1)
    if mode != "linear" or not half_pixel or op.attr("exclude_outside") or op.dtype() != op.dtype().FLOAT:
        return None  # TensorFlow resizes in float32
    return Emit(call("ops.image.resize", op.x, tuple(known), data_format="channels_last"))
