"""Ops that sample images at points."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import ints, rules
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op


@rules("GridSample")
def grid_sample(op: Op) -> Code:
    shape, grid = op.shape() or [None], op.shape(1) or [None]
    if not all(isinstance(d, int) for d in (*shape[1:], *grid[1:])):
        op.refuse("sampling an image needs sizes that are known")
    usual: dict[str, Any] = {"mode": "linear", "padding_mode": "zeros"}
    keywords = {k.removesuffix("_mode"): op.attr(k) for k, v in usual.items() if op.attr(k) != v}
    return call("grid_sample", op.x, op[1], **keywords, align_corners=True if op.attr("align_corners") else None)


@rules("AffineGrid")
def affine_grid(op: Op) -> Code:
    return call("affine_grid", op.x, ints(op, 1), align_corners=True if op.attr("align_corners") else None)
