"""LSTM, GRU and RNN: one node of the standard for each layer of the stack, both directions in one.

torch has an input and a hidden weight for each layer and direction; ONNX stacks the directions, and has the gates in
another order. The stacked weights are made of torch's when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        parameters: torch's weights, flat.
        options: See ``_Asked``.
        lengths: How long each sequence is; all are as long as ``x`` when None.
        extra: Attributes of the nodes.
    """
    asked = _Asked(*options)
    layers, each = asked.layers, 4 if asked.has_biases else 2
    if asked.train and asked.dropout:
        op.refuse(ALWAYS_ON)
    if len(parameters) != layers * asked.directions * each:
        return _projected(op, x, states, parameters, asked)
    path = (parameters[0].name or "").rpartition(".")[0]
    is_root, path = not path, path or kind.lower()  # a model that is this layer itself gets a name for it
    drops = asked.dropout and op.layer_path not in op.training.in_eval
    current = op.transpose(x, [1, 0, 2]) if asked.batch_first else x
    time, batch = sizes(current)[:2]
    finals: list[list[ir.Value]] = [[] for _ in states]
    for layer in range(layers):
        rows = [parameters[(layer * asked.directions + d) * each :][:each] for d in range(asked.directions)]
        own = f"{path}.{layer}" if layers > 1 else path
        given = [_part(op, s, layer, asked.directions, layers) for s in states]
        if layer and drops:
            current = op("Dropout", current, op.constant(asked.dropout, ir.DataType.FLOAT))
        y, *final = _one_layer(op, kind, own, current, rows, lengths, given, **extra)
        if layers > 1 or is_root:
            y.producer().meta[LAYER_NAME] = own  # type: ignore[union-attr]
        if layers > 1:
            traits.mark(y.producer(), traits.STACK)  # type: ignore[arg-type]
        for found, value in zip(finals, final, strict=True):
            found.append(value)
        hidden = sizes(rows[0][1])[1]
        turned = op.transpose(with_sizes(y, [time, asked.directions, batch, hidden]), [0, 2, 1, 3])
        current = op.reshape(turned, [time, batch, asked.directions * hidden])
    result = op.transpose(current, [1, 0, 2]) if asked.batch_first else current
    return [result, *(f[0] if len(f) == 1 else op("Concat", *f, axis=0) for f in finals)]


def _one_layer(
    op: Op,
    kind: str,
    path: str,
    x: ir.Value,
    rows: list[list[ir.Value]],
    lengths: ir.Value | None,
    states: list[ir.Value],
    **extra: Any,
) -> list[ir.Value]:
    """What the node of one layer makes; ``rows`` are torch's weights of each direction."""
    has_biases = len(rows[0]) == 4
    made: list[ir.Value] = op(
        kind,
        x,
        _stacked(op, kind, f"{path}.weight_ih", [[r[0]] for r in rows]),
        _stacked(op, kind, f"{path}.weight_hh", [[r[1]] for r in rows]),
        _stacked(op, kind, f"{path}.bias", [[r[2], r[3]] for r in rows]) if has_biases else None,
        lengths,
        *states,
        outputs=1 + len(states),
        direction="bidirectional" if len(rows) == 2 else "forward",
        hidden_size=sizes(rows[0][1])[1],
        **extra,
    )
    if has_biases and _trains_both(rows):
        made[0].producer().metadata_props[traits.BIASES] = "two"  # type: ignore[union-attr]
    return made


def _part(op: Op, state: ir.Value, layer: int, directions: int, layers: int) -> ir.Value:
    return state if layers == 1 else op.slice(state, 0, layer * directions, (layer + 1) * directions)


def _one_sequence(op: Op, x: ir.Value, states: list[ir.Value], run: Callable[..., list[ir.Value]]) -> list[ir.Value]:
    """Without a batch axis: add a batch of one, and remove it again."""
    made = run(op.unsqueeze(x, [1]), [op.unsqueeze(s, [1]) for s in states])
    return [op.squeeze(v, [1]) for v in made]


@reads("aten.lstm.input", "dlbridge.lstm")
def lstm(op: Op, x: ir.Value, hx: list[ir.Value], params: list[ir.Value], *options: Any) -> list[ir.Value]:
    if len(sizes(x)) == 2:
        return _one_sequence(op, x, hx, lambda a, b: _recurrent("LSTM", op, a, b, params, (*options[:-1], False)))
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


def _projected(
    op: Op, x: ir.Value, states: list[ir.Value], parameters: list[ir.Value], asked: _Asked
) -> list[ir.Value]:
    """(outputs of the last layer, final states of all layers).

    Args:
        op: The call.
        x: ``(time, batch, size)``, or ``(batch, time, size)``.
        states: The initial h, of the size of the projection, and c.
        parameters: torch's weights, flat: for each layer and direction two weights, two biases, the projection.
        asked: The arguments behind them.
    """
    directions, each = asked.directions, 5 if asked.has_biases else 3
    current = op.transpose(x, [1, 0, 2]) if asked.batch_first else x
    finals: list[list[ir.Value]] = [[], []]
    for layer in range(asked.layers):
        if layer and asked.dropout:
            current = op("Dropout", current, op.constant(asked.dropout, ir.DataType.FLOAT))
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
    result = op.transpose(current, [1, 0, 2]) if asked.batch_first else current
    return [result, *(_one_behind_the_other(op, found) for found in finals)]


def _state(op: Op, state: ir.Value, place: int) -> ir.Value:
    return with_sizes(op("Gather", state, place, axis=0), sizes(state)[1:])


def _one_behind_the_other(op: Op, values: list[ir.Value]) -> ir.Value:
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
        gates = now + op.extension("Linear", h, w_hh, b_hh)
        i, f, g, o = op("Split", gates, outputs=4, axis=-1, num_outputs=4)
        cell = op("Sigmoid", f) * c + op("Sigmoid", i) * op("Tanh", g)
        new = op.extension("Linear", op("Sigmoid", o) * op("Tanh", cell), w_hr)
        with_sizes(new, sizes(h))
        return [new, cell, new]

    return scan(op, [given], states, step, backwards)


# --- one step ------------------------------------------------------------------------------------------------------


def _gates(op: Op, x: ir.Value, w: ir.Value, b: ir.Value | None, count: int) -> list[ir.Value]:
    made = op.extension("Linear", x, w, b)
    return [made] if count == 1 else op("Split", made, outputs=count, axis=-1, num_outputs=count)


@reads("aten.lstm_cell")
def lstm_cell(
    op: Op, x: ir.Value, hx: list[ir.Value], w_ih: ir.Value, w_hh: ir.Value, b_ih: Any = None, b_hh: Any = None
) -> list[ir.Value]:
    total = op("Add", *_gates(op, x, w_ih, b_ih, 1), *_gates(op, hx[0], w_hh, b_hh, 1))
    i, f, g, o = op("Split", total, outputs=4, axis=-1, num_outputs=4)
    cell = op("Sigmoid", f) * hx[1] + op("Sigmoid", i) * op("Tanh", g)
    return [op("Sigmoid", o) * op("Tanh", cell), cell]


@reads("aten.gru_cell")
def gru_cell(
    op: Op, x: ir.Value, hx: ir.Value, w_ih: ir.Value, w_hh: ir.Value, b_ih: Any = None, b_hh: Any = None
) -> ir.Value:
    (xr, xz, xn), (hr, hz, hn) = _gates(op, x, w_ih, b_ih, 3), _gates(op, hx, w_hh, b_hh, 3)
    reset, update = op("Sigmoid", xr + hr), op("Sigmoid", xz + hz)
    new = op("Tanh", xn + reset * hn)
    return new + update * (hx - new)
