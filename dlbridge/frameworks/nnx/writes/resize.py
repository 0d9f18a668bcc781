"""Resize: repetition where that computes it, else the helper with the standard's formula."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import NNX, rules
from dlbridge.source.arrays.resize import (
    changed,
    formula_options,
    is_between_middles,
    repeats,
    target_options,
    target_shape,
)
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


@rules("Resize", "Upsample")
def resize(op: Op) -> Code:
    axes, scales, sizes = changed(op, NNX)
    if not axes:
        return code("{}", op.x)
    if scales is not None and all(s.is_integer() and s > 0 for s in scales) and repeats(op):
        repeated: Any = op.x
        for axis, times in zip(axes, scales, strict=True):
            repeated = call("jnp.repeat", repeated, int(times), axis=axis)
        return repeated
    plain = _image(op, axes, scales, sizes)
    if plain is not None:
        return plain
    if scales is None and sizes is None:
        scales = NNX.listed(op[2])
    return call("resize", op.x, **target_options(op, axes, scales, sizes), **formula_options(op, NNX))


def _image(op: Op, axes: list[int], scales: list[float] | None, sizes: Any) -> Code | None:
    """``jax.image.resize`` between the pixels, by whole scales or to sizes."""
    are_whole = scales is None or all(s.is_integer() for s in scales)
    plain = not (op.attr("antialias") or op.attr("exclude_outside"))
    if op.attr("mode") != "linear" or not (are_whole and plain) or op.dtype() != op.dtype().FLOAT:
        return None
    target = target_shape(op, axes, scales, sizes) if is_between_middles(op, scales, sizes) else None
    if target is None:
        return None
    return call("jax.image.resize", op.x, tuple(target), "linear", antialias=False)
