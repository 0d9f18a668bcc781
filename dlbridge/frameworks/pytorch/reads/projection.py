"""LSTM with ``proj_size`` (Sak et al., 2014), for which ONNX has no op: a Scan per layer and direction."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.control import scan
from dlbridge.frameworks.pytorch.reading import Op
from dlbridge.frameworks.pytorch.tensors import sized_like, sizes, with_sizes


def projected(
    op: Op, x: ir.Value, states: list[ir.Value], parameters: list[ir.Value], options: tuple[Any, ...]
) -> list[ir.Value]:
    """(outputs of the last layer, final states of all layers).

    Args:
        op: The call.
        x: ``(time, batch, size)``, or ``(batch, time, size)``.
        states: The initial h, of the size of the projection, and c.
        parameters: torch's weights, flat: for each layer and direction two weights, two biases, the projection.
        options: has_biases, num_layers, dropout, train, bidirectional, batch_first.
    """
    has_biases, layers, dropout, _, bidirectional, batch_first = options
    directions, each = 2 if bidirectional else 1, 5 if has_biases else 3
    current = op.transpose(x, [1, 0, 2]) if batch_first else x
    finals: list[list[ir.Value]] = [[], []]
    for layer in range(layers):
        if layer and dropout:
            current = sized_like(op("Dropout", current, op.constant(dropout, ir.DataType.FLOAT)), current)
        ways = []
        for direction in range(directions):
            place = layer * directions + direction
            weights = parameters[place * each :][:each]
            given = [_state(op, state, place) for state in states]
            *last, y = _one_way(op, current, given, weights, backwards=bool(direction))
            ways.append(y)
            for found, value in zip(finals, last, strict=True):
                found.append(value)
        of = [*sizes(ways[0])[:-1], sizes(ways[0])[-1] * directions]
        current = ways[0] if directions == 1 else with_sizes(op("Concat", *ways, axis=-1), of)
    result = op.transpose(current, [1, 0, 2]) if batch_first else current
    return [result, *(_stacked(op, found) for found in finals)]


def _state(op: Op, state: ir.Value, place: int) -> ir.Value:
    return with_sizes(op("Gather", state, op.number(place, ir.DataType.INT64), axis=0), sizes(state)[1:])


def _stacked(op: Op, values: list[ir.Value]) -> ir.Value:
    parts = [op.unsqueeze(v, [0]) for v in values]
    return parts[0] if len(parts) == 1 else op("Concat", *parts, axis=0)


def _one_way(
    op: Op, x: ir.Value, states: list[ir.Value], weights: list[ir.Value], *, backwards: bool
) -> list[ir.Value]:
    """(final h, final c, all h) of one layer in one direction."""
    w_ih, w_hh, *biases, w_hr = weights
    b_ih, b_hh = biases or (None, None)
    given = with_sizes(op.extension("Linear", x, w_ih, b_ih), [*sizes(x)[:-1], sizes(w_ih)[0]])

    def step(h: ir.Value, c: ir.Value, now: ir.Value) -> list[ir.Value]:
        gates = op("Add", now, op.extension("Linear", h, w_hh, b_hh))
        i, f, g, o = op("Split", gates, outputs=4, axis=-1, num_outputs=4)
        kept = op("Mul", op("Sigmoid", f), c)
        cell = with_sizes(op("Add", kept, op("Mul", op("Sigmoid", i), op("Tanh", g))), sizes(c))
        new = op.extension("Linear", op("Mul", op("Sigmoid", o), op("Tanh", cell)), w_hr)
        with_sizes(new, sizes(h))
        return [new, cell, new]

    return scan(op, [given], states, step, backwards)
