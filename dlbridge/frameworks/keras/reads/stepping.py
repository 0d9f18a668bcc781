"""Cells that the standard has no op for: their steps one after the other, the cell opened at each."""

from __future__ import annotations

from typing import Any

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras.site import Site

#: Longer sequences are not written step by step.
_MOST_STEPS = 64


def step_through(
    site: Site, kind: Any, x: ir.Value, mask: ir.Value | None, initial: list[ir.Value] | None, zero: bool
) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    """(outputs of all steps, of the last, final states) of a recurrent layer with any cell.

    A masked step keeps the states, and repeats the output before it (zeros, when ``zero``).
    """
    count = site.shape(x)[1]
    if not isinstance(count, int) or count > _MOST_STEPS:
        site.refuse(f"a {type(kind.cell).__name__} over more than {_MOST_STEPS} steps, or over a number not known")
    path = site.build.path
    site.build.blocks[path] = type(kind).__name__
    states = initial or _zero_states(site, kind, x)
    outputs: list[ir.Value] = []
    for step in range(count):
        with site.build.at(f"{path}.cell"):
            now = site.squeeze(site.slice(x, 1, step, step + 1), 1)
            y, new = site.walker.call(kind.cell, (now, states), {})
            new = keras.tree.flatten(new)
            if mask is not None:
                counts = site.cast(site.slice(mask, 1, step, step + 1), ir.DataType.BOOL)
                before = outputs[-1] if outputs and not zero else site.op("Sub", y, y)
                y, *new = (
                    site.op("Where", _wide(site, counts, value), value, old)
                    for value, old in zip((y, *new), (before, *states), strict=True)
                )
            outputs.append(y)
            states = list(new)
    stacked = [site.unsqueeze(y, 1) for y in outputs]
    sequence = site.op("Concat", *stacked, axis=1)
    return sequence, outputs[-1], states


def _wide(site: Site, mask: ir.Value, like: ir.Value) -> ir.Value:
    extra = site.rank(like) - site.rank(mask)
    return site.unsqueeze(mask, *range(2, 2 + extra)) if extra else mask


def _zero_states(site: Site, kind: Any, x: ir.Value) -> list[ir.Value]:
    """Zeros of the shapes of the initial states of one sequence, for as many sequences as there are."""
    shapes = [list(v.shape)[1:] for v in keras.tree.flatten(kind.get_initial_state(1))]
    return [
        site.op("Expand", site.build.value(0.0, x.dtype), site.op("Concat", site.size(x, 0), shape, axis=0))
        for shape in shapes
    ]
