"""Cells for which ONNX has no op: the cell is opened, and its steps are unrolled or become a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.bodies import scan
from dlbridge.frameworks.keras.graph.call_site import CallSite

#: Sequences that are longer or of unknown length become loops, unless the layer has ``unroll=True``.
_MOST_STEPS = 4


def step_through(
    site: CallSite, kind: Any, x: ir.Value, mask: ir.Value | None, initial: list[ir.Value] | None, zero: bool
) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    """(outputs of all steps, of the last, final states) of a recurrent layer with any cell.

    A masked step keeps the states, and repeats the output before it (zeros, when ``zero``).
    """
    path = site.build.path
    site.build.blocks[path] = type(kind).__name__
    nest = kind.get_initial_state(1)
    states = initial or [_zeros(site, x, list(v.shape)[1:]) for v in keras.tree.flatten(nest)]

    def step(now: ir.Value, counts: ir.Value | None, before: ir.Value | None, states: list[ir.Value]) -> list[ir.Value]:
        """[output, *new states]; ``before`` is the output before, None for zeros."""
        with site.build.at(f"{path}.cell"):
            y, new = site.reader.call(kind.cell, (now, keras.tree.pack_sequence_as(nest, states)), {})
            made = [y, *keras.tree.flatten(new)]
            if counts is None:
                return made
            old = [y - y if before is None else before, *states]
            counts = site.cast(counts, ir.DataType.BOOL)
            return [site.op("Where", _wide(site, counts, n), n, o) for n, o in zip(made, old, strict=True)]

    count = site.shape(x)[1]
    if isinstance(count, int) and (count <= _MOST_STEPS or kind.unroll):
        return _unrolled(site, step, x, mask, states, zero, count)
    return _looped(site, kind, step, x, mask, states, zero)


_Step = Callable[[ir.Value, ir.Value | None, ir.Value | None, list[ir.Value]], list[ir.Value]]


def _unrolled(
    site: CallSite, step: _Step, x: ir.Value, mask: ir.Value | None, states: list[ir.Value], zero: bool, count: int
) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    outputs: list[ir.Value] = []
    for place in range(count):
        now = site.squeeze(site.slice(x, 1, place, place + 1), 1)
        counts = None if mask is None else site.slice(mask, 1, place, place + 1)
        y, *states = step(now, counts, outputs[-1] if outputs and not zero else None, states)
        outputs.append(y)
    sequence = site.op("Concat", *(site.unsqueeze(y, 1) for y in outputs), axis=1)
    return sequence, outputs[-1], states


def _looped(
    site: CallSite, kind: Any, step: _Step, x: ir.Value, mask: ir.Value | None, states: list[ir.Value], zero: bool
) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    """If steps can be masked, the previous output is a further state."""
    sequences = [_time_first(site, x), *([] if mask is None else [_time_first(site, site.unsqueeze(mask, 2))])]
    repeats = mask is not None and not zero
    first = [_zeros(site, x, _output_shape(site, kind, x))] if repeats else []

    def run(now: list[ir.Value], parts: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        counts = parts[1] if mask is not None else None
        y, *new = step(parts[0], counts, now[0] if repeats else None, now[1:] if repeats else now)
        return [*([y] if repeats else []), *new], [y]

    last, (stacked,) = scan(site, run, [*first, *states], sequences)
    final = site.op("Gather", stacked, np.asarray(-1), axis=0)
    return _time_first(site, stacked), final, last[len(first) :]


def _time_first(site: CallSite, value: ir.Value) -> ir.Value:
    """Exchange the first two axes."""
    return site.transpose(value, [1, 0, *range(2, site.rank(value))])


def _wide(site: CallSite, mask: ir.Value, like: ir.Value) -> ir.Value:
    extra = site.rank(like) - site.rank(mask)
    return site.unsqueeze(mask, *range(2, 2 + extra)) if extra else mask


def _output_shape(site: CallSite, kind: Any, x: ir.Value) -> list[int]:
    """The shape of an output of one sequence at one step."""
    sizes = site.shape(x)[2:]
    site.require(sizes, "it is given a mask, and sequences of things of unknown size")
    shape = kind.compute_output_shape((1, 2, *sizes))
    shape = list(shape[0] if isinstance(shape[0], (tuple, list)) else shape)
    return shape[2:] if kind.return_sequences else shape[1:]


def _zeros(site: CallSite, x: ir.Value, shape: list[int]) -> ir.Value:
    """Zeros of a shape, for a batch of unknown size."""
    return site.op("Expand", site.build.value(0.0, x.dtype), site.op("Concat", site.size(x, 0), shape, axis=0))
