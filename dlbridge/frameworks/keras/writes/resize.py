"""Resize: Keras' layers where they compute the standard's formula, else a helper that does."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.frameworks.keras.rules import ints, rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.windows import one_or_all


@rules("Resize", "Upsample")
def resize(op: Op) -> Emit | Code:
    axes = [a % op.rank() for a in op.attr("axes") or range(op.rank())]
    scales: Any = _scales(op)
    sizes = ints(op, 3) if op.has(3) else None
    plain = _layer(op, axes, scales, sizes)
    if plain is not None:
        return plain
    if scales is not None and op.attr("coordinate_transformation_mode") != "tf_crop_and_resize":
        changing = [i for i, scale in enumerate(scales) if scale != 1]
        axes, scales = [axes[i] for i in changing], [scales[i] for i in changing]
    _check_sizes(op, axes, scales)
    if scales is None and sizes is None:
        scales = code("ops.convert_to_numpy({}).tolist()", op[2])
    keywords: dict[str, Any] = {"scales": scales} if sizes is None else {"sizes": sizes}
    keywords |= {} if axes == list(range(op.rank())) else {"axes": axes}
    mode, coordinates = op.attr("mode"), op.attr("coordinate_transformation_mode")
    defaults: dict[str, tuple[Any, Any]] = {"mode": (mode, "nearest"), "coordinates": (coordinates, "half_pixel")}
    if mode == "nearest":
        defaults["rounding"] = (op.attr("nearest_mode"), "round_prefer_floor")
    if mode == "cubic":
        defaults["a"] = (op.attr("cubic_coeff_a"), -0.75)
    if coordinates == "tf_crop_and_resize":
        roi = op.const(1)
        keywords["roi"] = code("ops.convert_to_numpy({}).tolist()", op[1]) if roi is None else roi.tolist()
        defaults["outside"] = (op.attr("extrapolation_value"), 0.0)
    defaults["policy"] = (op.attr("keep_aspect_ratio_policy"), "stretch")
    keywords |= {k: v for k, (v, usual) in defaults.items() if v != usual}
    keywords |= {k: True for k in ("exclude_outside", "antialias") if op.attr(k)}
    return call("resize", op.x, **keywords)


def _scales(op: Op) -> list[float] | None:
    """Constant scales as floats; None where sizes are given, or scales are computed."""
    array = op.const(2)
    if op.has(3) or array is None or array.size == 0:
        return None
    return [float(str(s)) for s in array.astype(np.float32)]


def _check_sizes(op: Op, axes: list[int], scales: list[float] | None) -> None:
    """The helper computes with the sizes of the axes that change."""
    shape = op.shape() or []
    for place, axis in enumerate(axes):
        if not isinstance(shape[axis], int) and (scales is None or scales[place] != 1):
            op.refuse("this resizing needs sizes that are known")


def _layer(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Emit | None:
    """``UpSampling2D`` for whole scales, ``ops.image.resize`` for other sizes; channels stand last."""
    if op.rank() != 4 or op.attr("antialias") or op.attr("keep_aspect_ratio_policy") != "stretch":
        return None
    shape, mode = op.shape() or [], op.attr("mode")
    coordinates, rounding = op.attr("coordinate_transformation_mode"), op.attr("nearest_mode")
    if scales is not None:
        by_axis = dict(zip(axes, scales, strict=True))
        if any(by_axis.get(a, 1) != 1 for a in (0, 3)) or any(not float(s).is_integer() for s in scales):
            return None
        whole = [int(by_axis.get(a, 1)) for a in (1, 2)]
        floors = coordinates == "asymmetric" and rounding == "floor"
        nearest = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
        if mode == "nearest" and (floors or nearest):
            repeated: Any = op.x
            for axis, times in zip((1, 2), whole, strict=True):
                repeated = call("ops.repeat", repeated, times, axis=axis) if times != 1 else repeated
            return Emit(code("{}", repeated), module=Layer(call("layers.UpSampling2D", one_or_all(whole))))
        sizes = [d * s if isinstance(d, int) else None for d, s in zip(shape[1:3], whole, strict=True)]
    else:
        if not isinstance(sizes, list):
            return None
        by_axis = dict(zip(axes, sizes, strict=True))
        kept = all(a not in by_axis or by_axis[a] == shape[a] for a in (0, 3))
        sizes = [by_axis.get(a, shape[a]) for a in (1, 2)] if kept else [None]
    half_pixel = coordinates == "half_pixel" or (  # PyTorch's differs for one pixel
        coordinates == "pytorch_half_pixel" and all(isinstance(s, int) and s > 1 for s in sizes)
    )
    linear = mode == "linear" and half_pixel and not op.attr("exclude_outside")
    if not linear or not all(isinstance(s, int) for s in sizes) or not op.dtype().is_floating_point():
        return None
    if op.dtype() != op.dtype().FLOAT:
        return None  # TensorFlow resizes in float32
    return Emit(call("ops.image.resize", op.x, tuple(sizes), data_format="channels_last"))
