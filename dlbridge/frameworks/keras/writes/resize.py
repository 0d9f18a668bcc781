"""Resize: Keras' layers where they compute the standard's formula, else a helper that does."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.frameworks.keras.writes.arrays import KERAS
from dlbridge.source.arrays.resize import (
    changed,
    crops,
    formula_options,
    is_between_ends,
    is_between_middles,
    repeats,
    stretches,
    target_options,
    target_shape,
)
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call, code
from dlbridge.source.windows import one_or_all


@rules("Resize", "Upsample")
def resize(op: Op) -> Emit | Code:
    axes, scales, sizes = changed(op, KERAS)
    if not axes:
        return code("{}", op.x)
    plain: Emit | Code | None = _upsampling(op, axes, scales)
    plain = plain or _image(op, axes, scales, sizes) or _translated(op, axes, scales, sizes)
    plain = plain or _aligned(op, axes, scales, sizes)
    if plain is not None:
        return plain
    shape = op.shape() or []
    known = all(isinstance(shape[a], int) for a in axes) and all(isinstance(s, int) for s in _listed(sizes))
    if not known and (crops(op) or not stretches(op)):
        op.refuse("cropping, or keeping the aspect ratio, needs sizes that are known")
    if scales is None and sizes is None:
        scales = KERAS.listed(op[2])
    known_shape = {} if known else {"shape": call("ops.shape", op.x)}
    return call("resize", op.x, **target_options(op, axes, scales, sizes), **known_shape, **formula_options(op, KERAS))


def _upsampling(op: Op, axes: list[int], scales: list[float] | None) -> Emit | None:
    """``UpSampling2D``, say, by whole scales, whether the sizes are known or not; ``ops.repeat``, which is the same,
    where no layer is called on channels that stand last."""
    places, count = _spatial_axes(op, axes), op.rank() - 2
    if count not in (1, 2, 3) or scales is None or places is None or not stretches(op) or not repeats(op):
        return None
    is_last = places[0] == 1
    if count == 1 and not is_last:  # UpSampling1D has no other layout
        return None
    if not all(s.is_integer() and (is_last or s > 1) for s in scales):
        return None
    by_axis = dict(zip(axes, scales, strict=True))
    factors = [int(by_axis.get(axis, 1)) for axis in places]
    layer = Layer(
        call(f"layers.UpSampling{count}D", one_or_all(factors), data_format=None if is_last else "channels_first")
    )
    if not is_last:
        return Emit(call(LAYER, op.x), layer)
    repeated: Any = op.x
    for axis, times in zip(places, factors, strict=True):
        repeated = call("ops.repeat", repeated, times, axis=axis) if times != 1 else repeated
    return Emit(code("{}", repeated), module=layer)


def _spatial_axes(op: Op, axes: list[int]) -> range | None:
    """All axes but the batch and the channels, which are the last or the second, if these are among them."""
    rank = op.rank()
    return next((found for found in (range(1, rank - 1), range(2, rank)) if set(axes) <= set(found)), None)


def _translated(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Code | None:
    """``ops.image.scale_and_translate``, which takes sizes that are not known before a run."""
    smooth = bool(op.attr("antialias"))
    # it leaves out what is outside, which tells where the filter is wider than the step
    is_its_formula = op.attr("mode") == "linear" and smooth == bool(op.attr("exclude_outside"))
    if not is_its_formula or op.dtype() != op.dtype().FLOAT:
        return None
    target = target_shape(op, axes, scales, sizes) if is_between_middles(op, scales, sizes) else None
    if target is None:
        return None
    steps = scales if scales is not None else [code("{} / {}", target[axis], op.dim(0, axis)) for axis in axes]
    return call(
        "ops.image.scale_and_translate",
        op.x,
        tuple(target),
        scale=tuple(steps),
        translation=(0.0,) * len(axes),
        spatial_dims=tuple(axes),
        method="linear",
        antialias=smooth,
    )


def _aligned(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Code | None:
    """A helper for ``align_corners=True``, whose sizes may be known or not: of images, for products of sizes must fit
    into the int32 that JAX computes with."""
    is_whole = scales is not None and all(s.is_integer() and s > 0 for s in scales)
    if not is_between_ends(op) or not (is_whole or _listed(sizes)) or op.rank() < 4 or op.dtype() != op.dtype().FLOAT:
        return None
    target = target_shape(op, axes, scales, sizes)
    assert target is not None  # no scale is a fraction
    return call("resize_aligned", op.x, sizes=[target[axis] for axis in axes], axes=axes)


def _listed(sizes: Any) -> list[Any]:
    """Sizes that are known one by one; none where code reads them from a tensor."""
    return sizes if isinstance(sizes, list) else []


def _image(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Code | None:
    """``ops.image.resize`` between the pixels, to sizes that are known: Keras compares them with 0, which TensorFlow's
    graphs cannot."""
    places = _spatial_axes(op, axes)
    is_whole = scales is None or all(s.is_integer() for s in scales)
    if op.rank() != 4 or places is None or not is_whole or op.attr("antialias") or op.attr("exclude_outside"):
        return None
    if op.attr("mode") != "linear" or op.dtype() != op.dtype().FLOAT:  # TensorFlow resizes in float32
        return None
    target = target_shape(op, axes, scales, sizes) if is_between_middles(op, scales, sizes) else None
    size = [target[axis] for axis in places] if target is not None else []
    if not size or not all(isinstance(s, int) for s in size):
        return None
    order = "channels_last" if places[0] == 1 else "channels_first"
    return call("ops.image.resize", op.x, tuple(size), data_format=order)
