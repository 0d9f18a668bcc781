"""LSTM, GRU and RNN: one node of the standard for each layer of the stack, both directions in one.

torch has an input and a hidden weight for each layer and direction; ONNX stacks the directions, and has the gates in
another order. The stacked weights are made of torch's when they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.control import scan
from dlbridge.frameworks.pytorch.graph.reading import LAYER_NAME, Op, reads
from dlbridge.frameworks.pytorch.reads import packing
from dlbridge.frameworks.pytorch.reads.dropout import ALWAYS_ON
from dlbridge.ops import traits

#: Index in PyTorch's weights of each of ONNX' gates: LSTM i f g o -> i o f c, GRU r z n -> z r h.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _reordered(array: np.ndarray, gates: Sequence[int]) -> np.ndarray:
    pieces = np.split(array, len(gates))
    return np.concatenate([pieces[g] for g in gates]) if len(gates) > 1 else array


def _stacked(op: Op, kind: str, path: str, values: list[list[ir.Value]]) -> ir.Value:
    """An initializer of one row a direction; a row is the weights of ``values``, one behind the other."""
    gates = _GATES[kind]
    first = values[0][0].const_value
    if any(v.const_value is None for row in values for v in row):
        op.refuse("recurrent layers whose weights are computed")
    tail = [int(s) for s in first.shape][1:]
    shape = [len(values), sum(int(v.const_value.shape[0]) for v in values[0]), *tail]

    def read() -> ir.TensorProtocol:
        rows = [np.concatenate([_reordered(v.const_value.numpy(), gates) for v in row]) for row in values]
        return ir.tensor(np.stack(rows))

    return op.program.made_weights.add(path, [v for row in values for v in row], read, shape, _kind(op, values))


def _kind(op: Op, values: list[list[ir.Value]]) -> traits.Kind:
    """The kind of stacked weights; of two biases, that of the first (``traits.BIASES``)."""
    kinds = {traits.kind(row[0]) for row in values}
    alike = len(kinds) == 1 and all(traits.kind(v) in ("frozen", kind) for kind in kinds for row in values for v in row)
    if not alike:
        op.refuse(
            "a recurrent layer of which one direction is frozen and the other trains, or the bias of the state trains "
            "and that of the input does not"
        )
    return kinds.pop()


def _trains_both(rows: list[list[ir.Value]]) -> bool:
    """Whether both biases of each direction train."""
    return all(traits.is_trained(bias) for row in rows for bias in row[2:4])


class _Asked(NamedTuple):
    """The arguments of torch's recurrent layers behind their weights."""

    has_biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1


def _recurrent(
    kind: str,
    op: Op,
    x: ir.Value,
    states: list[ir.Value],
    parameters: list[ir.Value],
    options: tuple[Any, ...],
    lengths: ir.Value | None = None,
    **extra: Any,
) -> list[ir.Value]:
    """(outputs of the last layer, final states of all layers).

    Args:
        kind: LSTM, GRU or RNN.
        x: ``(time, batch, size)``, or ``(batch, time, size)``.
        states: The initial states, each ``(layers * directions, batch, hidden)``.
        parameters: torch's weights, flat: for each layer and direction two weights, two biases, and the projection.
        options: See ``_Asked``.
        lengths: How long each sequence is; all are as long as ``x`` when None.
        extra: Attributes of the nodes.
    """
    asked = _Asked(*options)
    if asked.train and asked.dropout:
        op.refuse(ALWAYS_ON)
    each = len(parameters) // (asked.layers * asked.directions)
    is_projected = each % 2 == 1
    drops = asked.dropout and op.layer_path not in op.training.in_eval
    current = op.transpose(x, [1, 0, 2]) if asked.batch_first else x
    finals: list[list[ir.Value]] = [[] for _ in states]
    for layer in range(asked.layers):
        ways = range(layer * asked.directions, (layer + 1) * asked.directions)
        rows = [parameters[way * each :][:each] for way in ways]
        if layer and drops:
            current = op("Dropout", current, op.constant(asked.dropout, ir.DataType.FLOAT))
        if is_projected:
            current, *last = _projected(op, current, states, rows, ways)
        else:
            number = layer if asked.layers > 1 else None
            current, *last = _one_layer(op, kind, number, current, rows, lengths, states, ways, **extra)
        for found, values in zip(finals, last, strict=True):
            found += values
    result = op.transpose(current, [1, 0, 2]) if asked.batch_first else current
    return [result, *(f[0] if len(f) == 1 else op("Concat", *f, axis=0) for f in finals)]


def _one_layer(
    op: Op,
    kind: str,
    number: int | None,
    x: ir.Value,
    rows: list[list[ir.Value]],
    lengths: ir.Value | None,
    states: list[ir.Value],
    ways: range,
    **extra: Any,
) -> list[Any]:
    """The outputs of one layer, and a list of each final state.

    Args:
        number: Which of several layers it is; None where it is the only one.
        rows: torch's weights of each direction.
        ways: The places of the directions in the states.
    """
    module = (rows[0][0].name or "").rpartition(".")[0]
    path = module or kind.lower()  # a model that is this layer itself gets a name for it
    path = path if number is None else f"{path}.{number}"
    has_biases, hidden = len(rows[0]) == 4, sizes(rows[0][1])[1]
    y, *finals = op(
        kind,
        x,
        _stacked(op, kind, f"{path}.weight_ih", [[r[0]] for r in rows]),
        _stacked(op, kind, f"{path}.weight_hh", [[r[1]] for r in rows]),
        _stacked(op, kind, f"{path}.bias", [[r[2], r[3]] for r in rows]) if has_biases else None,
        lengths,
        *(s if number is None else op.slice(s, 0, ways.start, ways.stop) for s in states),
        outputs=1 + len(states),
        direction="bidirectional" if len(rows) == 2 else "forward",
        hidden_size=hidden,
        **extra,
    )
    node = y.producer()
    if has_biases and _trains_both(rows):
        node.metadata_props[traits.BIASES] = "two"
    if number is not None or not module:
        node.meta[LAYER_NAME] = path
    if number is not None:
        traits.mark(node, traits.STACK)
    time, batch = sizes(x)[:2]
    turned = op.transpose(with_sizes(y, [time, len(rows), batch, hidden]), [0, 2, 1, 3])
    return [op.reshape(turned, [time, batch, len(rows) * hidden]), *([final] for final in finals)]


@reads("aten.lstm.input", "dlbridge.lstm")
def lstm(op: Op, x: ir.Value, hx: list[ir.Value], params: list[ir.Value], *options: Any) -> list[ir.Value]:
    return _recurrent("LSTM", op, x, hx, params, options)


@reads("aten.gru.input", "dlbridge.gru")
def gru(op: Op, x: ir.Value, hx: ir.Value, params: list[ir.Value], *options: Any) -> list[ir.Value]:
    return _recurrent("GRU", op, x, [hx], params, options, **_extra(op, options))


@reads("aten.rnn_tanh.input", "aten.rnn_relu.input", "dlbridge.rnn_tanh", "dlbridge.rnn_relu")
def rnn(op: Op, x: ir.Value, hx: ir.Value, params: list[ir.Value], *options: Any) -> list[ir.Value]:
    return _recurrent("RNN", op, x, [hx], params, options, **_extra(op, options))


@reads("dlbridge.lstm_packed", "dlbridge.gru_packed", "dlbridge.rnn_tanh_packed", "dlbridge.rnn_relu_packed")
def packed(op: Op, data: ir.Value, batch_sizes: ir.Value, hx: Any, params: list[ir.Value], *options: Any) -> Any:
    """The sequences before packing, and their lengths."""
    kind = op.name.partition("_")[0].upper()
    x, lengths = packing.padded(op, data, batch_sizes)
    states = hx if isinstance(hx, list) else [hx]
    steps = op.cast(lengths, ir.DataType.INT32)
    made, *finals = _recurrent(kind, op, x, states, params, (*options, False), steps, **_extra(op, options))
    return [packing.pack(op, made, lengths), *finals]


def _extra(op: Op, options: tuple[Any, ...]) -> dict[str, Any]:
    """The attributes of each kind of layer."""
    if op.name.startswith("gru"):
        return {"linear_before_reset": 1}
    if op.name.startswith("rnn"):
        return {"activations": ["Tanh" if op.name.startswith("rnn_tanh") else "Relu"] * (2 if options[4] else 1)}
    return {}


# --- with a projection (``proj_size``; Sak et al., 2014), for which ONNX has no op: a Scan a layer and direction ---


def _projected(op: Op, x: ir.Value, states: list[ir.Value], rows: list[list[ir.Value]], ways: range) -> list[Any]:
    """As ``_one_layer``; ``states`` are h, of the size of the projection, and c."""
    outputs: list[ir.Value] = []
    finals: list[list[ir.Value]] = [[] for _ in states]
    for way, weights in zip(ways, rows, strict=True):
        given = [with_sizes(op("Gather", state, way, axis=0), sizes(state)[1:]) for state in states]
        *last, y = _one_way(op, x, given, weights, backwards=bool(outputs))
        outputs.append(y)
        for found, value in zip(finals, last, strict=True):
            found.append(op.unsqueeze(value, [0]))
    of = [*sizes(outputs[0])[:-1], sizes(outputs[0])[-1] * len(outputs)]
    return [outputs[0] if len(outputs) == 1 else with_sizes(op("Concat", *outputs, axis=-1), of), *finals]


def _one_way(
    op: Op, x: ir.Value, states: list[ir.Value], weights: list[ir.Value], *, backwards: bool
) -> list[ir.Value]:
    """(final h, final c, all h) of one layer in one direction."""
    w_ih, w_hh, *biases, w_hr = weights
    b_ih, b_hh = biases or (None, None)
    given = with_sizes(op.extension("Linear", x, w_ih, b_ih), [*sizes(x)[:-1], sizes(w_ih)[0]])

    def step(h: ir.Value, c: ir.Value, now: ir.Value) -> list[ir.Value]:
        full, cell = _lstm_step(op, now, op.extension("Linear", h, w_hh, b_hh), c)
        new = op.extension("Linear", full, w_hr)
        with_sizes(new, sizes(h))
        return [new, cell, new]

    return scan(op, [given], states, step, backwards)


# --- one step ------------------------------------------------------------------------------------------------------


def _lstm_step(op: Op, of_input: ir.Value, of_state: ir.Value, c: ir.Value) -> list[ir.Value]:
    """(h, c), of what the gates are given of the input and of the state."""
    i, f, g, o = _gates(op, of_input + of_state, 4)
    cell = op("Sigmoid", f) * c + op("Sigmoid", i) * op("Tanh", g)
    return [op("Sigmoid", o) * op("Tanh", cell), cell]


def _gates(op: Op, x: ir.Value, count: int) -> list[ir.Value]:
    return op("Split", x, outputs=count, axis=-1, num_outputs=count)


@reads("aten.lstm_cell")
def lstm_cell(
    op: Op, x: ir.Value, hx: list[ir.Value], w_ih: ir.Value, w_hh: ir.Value, b_ih: Any = None, b_hh: Any = None
) -> list[ir.Value]:
    return _lstm_step(op, op.extension("Linear", x, w_ih, b_ih), op.extension("Linear", hx[0], w_hh, b_hh), hx[1])


@reads("aten.gru_cell")
def gru_cell(
    op: Op, x: ir.Value, hx: ir.Value, w_ih: ir.Value, w_hh: ir.Value, b_ih: Any = None, b_hh: Any = None
) -> ir.Value:
    xr, xz, xn = _gates(op, op.extension("Linear", x, w_ih, b_ih), 3)
    hr, hz, hn = _gates(op, op.extension("Linear", hx, w_hh, b_hh), 3)
    reset, update = op("Sigmoid", xr + hr), op("Sigmoid", xz + hz)
    new = op("Tanh", xn + reset * hn)
    return new + update * (hx - new)
