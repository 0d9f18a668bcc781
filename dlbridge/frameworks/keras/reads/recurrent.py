"""Recurrent layers. ONNX has the time first, a direction axis, another order of gates, and two biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph import masks
from dlbridge.frameworks.keras.graph.building import IR_DTYPES
from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.frameworks.keras.reads.stepping import step_through
from dlbridge.frameworks.keras.rules import RECURRENT_ACTIVATIONS
from dlbridge.ops.extension import DOMAIN

#: Class of a cell -> (op, the gates in the standard's order as places in Keras' order). A user's class of that name is
#: another cell.
_CELLS: dict[type, tuple[str, tuple[int, ...]]] = {
    keras.layers.SimpleRNNCell: ("RNN", (0,)),
    keras.layers.LSTMCell: ("LSTM", (0, 3, 1, 2)),
    keras.layers.GRUCell: ("GRU", (0, 1, 2)),
}
#: Keras' activation -> the standard's, and the numbers (alpha, beta) that it takes.
_ACTIVATIONS = {getattr(keras.activations, name): found for name, found in RECURRENT_ACTIVATIONS.items()}

#: Why a stateful layer is refused, and what to do.
_STATEFUL = (
    "it is stateful: what it computes depends on the calls before; set its stateful to False where each call begins "
    "anew, or let the model take the states and return them"
)


@dataclass
class Run:
    """The results of a recurrent layer: outputs of all steps (batch, time, ...), of the last one, and final states."""

    sequence: ir.Value
    last: ir.Value
    states: list[ir.Value]


@layer("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", masks=True, arguments=True)
def recurrent(site: CallSite) -> Any:
    kind = site.layer
    initial = site.args[1] if len(site.args) > 1 else site.kwargs.get("initial_state")
    run = run_layer(site, kind, site.x, _one(site.mask), _states(initial))
    first = run.sequence if kind.return_sequences else run.last
    return (first, *run.states) if kind.return_state else first


def _one(mask: Any) -> ir.Value | None:
    return keras.tree.flatten(mask)[0] if mask is not None else None


def _states(given: Any) -> list[ir.Value] | None:
    if given is None:
        return None
    return [v for v in keras.tree.flatten(given) if v is not None] or None


def run_layer(site: CallSite, kind: Any, x: ir.Value, mask: ir.Value | None, initial: list[ir.Value] | None) -> Run:
    """Run one direction. A reversed sequence stays in the order in which it was walked, as Keras has it.

    Args:
        site: The call.
        kind: The recurrent layer.
        x: (batch, time, ...).
        mask: (batch, time), or None.
        initial: The initial states; zeros when None.
    """
    if kind.stateful:
        site.refuse(_STATEFUL)
    if kind.go_backwards:
        x = site.slice(x, 1, -1, None, -1)
        mask = None if mask is None else site.slice(mask, 1, -1, None, -1)
    cells = list(kind.cell.cells) if isinstance(kind.cell, keras.layers.StackedRNNCells) else [kind.cell]
    zero = bool(getattr(kind, "zero_output_for_mask", False))
    if not all(type(c) in _CELLS and _known(c) for c in cells):
        return Run(*step_through(site, kind, x, mask, initial, zero))
    return _stack(site, kind, cells, x, mask, initial, zero)


def _known(cell: Any) -> bool:
    """Whether ONNX' op has the activations of a cell."""
    used = [cell.activation, getattr(cell, "recurrent_activation", keras.activations.sigmoid)]
    return all(any(f is known for known in _ACTIVATIONS) for f in used)


def _stack(
    site: CallSite, kind: Any, cells: list[Any], x: ir.Value, mask: Any, initial: list[ir.Value] | None, zero: bool
) -> Run:
    """Stacked cells: each reads the whole sequence of the one before."""
    path, states, begin = site.build.path, [], 0
    run = None
    for number, cell in enumerate(cells):
        count = 2 if isinstance(cell, keras.layers.LSTMCell) else 1
        mine = None if initial is None else initial[begin : begin + count]
        begin += count
        if len(cells) == 1:
            run = _run_cell(site, cell, x, mask, mine, zero, kind.return_state)
        else:
            site.build.blocks[path] = type(kind).__name__
            with site.build.at(f"{path}.cells.{number}"):
                run = _run_cell(site, cell, x, mask, mine, zero, kind.return_state)
        x = run.sequence
        states += run.states
    assert run is not None
    return Run(run.sequence, run.last, states)


def _run_cell(
    site: CallSite, cell: Any, x: ir.Value, mask: Any, initial: list[ir.Value] | None, zero: bool, wants_state: bool
) -> Run:
    """One cell over a sequence.

    A masked step changes nothing, so the steps that count are walked alone: they are moved to the front first, and
    their outputs to their places after.
    """
    lengths = None
    if mask is not None:
        mask = site.cast(mask, ir.DataType.BOOL)
        masks.name(mask)
        x = site.op("CompactSteps", x, mask, domain=DOMAIN)
        if wants_state and isinstance(cell, keras.layers.LSTMCell):  # the cell's own state has no sequence
            lengths = site.op("Max", site.cast(_count(site, mask), "int32"), 1)
    ys, finals = _node(site, [cell], x, initial, lengths=lengths)
    sequence = site.transpose(site.squeeze(ys, 1), [1, 0, 2])
    states = [site.squeeze(f, 0) for f in finals]
    if mask is None:
        return Run(sequence, states[0], states)
    outputs = site.op("SpreadSteps", sequence, mask, domain=DOMAIN)
    last = _last(site, outputs)  # 0 where no step counts
    states = [last, *states[1:]]
    if initial is not None or len(states) > 1:
        any_step = site.unsqueeze(site.op("Greater", _count(site, mask), 0), 1)
        starts = initial or [0.0] * len(states)
        states = [site.op("Where", any_step, state, start) for state, start in zip(states, starts, strict=True)]
    if zero:
        outputs = site.op("Where", site.unsqueeze(mask, 2), outputs, 0.0)
        last = _last(site, outputs)
    return Run(outputs, last, states)


def _last(site: CallSite, sequence: ir.Value) -> ir.Value:
    return site.op("Gather", sequence, -1, axis=1)


def _count(site: CallSite, mask: ir.Value) -> ir.Value:
    """How many steps of each row count."""
    return site.op("ReduceSum", site.cast(mask, ir.DataType.INT64), [1], keepdims=0)


def _node(
    site: CallSite, cells: list[Any], x: ir.Value, initial: list[ir.Value] | None, lengths: ir.Value | None = None
) -> tuple[ir.Value, list[ir.Value]]:
    """The node for one cell, or for the two of a bidirectional layer: Y (time, directions, batch, units), states."""
    cell = cells[0]
    op_type, order = _CELLS[type(cell)]
    units = int(cell.units)
    path = site.build.path
    reset_after = op_type == "GRU" and bool(cell.reset_after)

    def turned(*arrays: np.ndarray) -> np.ndarray:
        return np.stack([np.concatenate([np.split(a.T, len(order))[i] for i in order]) for a in arrays])

    def biases(*arrays: np.ndarray) -> np.ndarray:
        return np.stack([_two_biases(a, order, reset_after) for a in arrays])

    def weight(name: str, what: str, join: Any) -> ir.Value:
        value = site.build.joined_weight([getattr(c, what) for c in cells], f"{path}.{name}", join, (name, order))
        return site.cast(value, IR_DTYPES[cell.compute_dtype])

    weights = [weight("weight_ih", "kernel", turned), weight("weight_hh", "recurrent_kernel", turned)]
    weights.append(weight("bias", "bias", biases) if cell.use_bias else None)  # type: ignore[arg-type]
    count = 2 if op_type == "LSTM" else 1
    starts = _initial(site, initial, count, len(cells))
    y, *finals = site.layer_op(
        op_type,
        site.transpose(x, [1, 0, 2]),
        *weights,
        *([lengths, *starts] if lengths is not None or starts else []),
        hidden_size=units,
        direction="bidirectional" if len(cells) == 2 else None,
        linear_before_reset=1 if reset_after else None,
        **_activations(op_type, cell, len(cells)),
        outputs=1 + count,
    )
    return y, finals


#: Op -> the standard's activations; those of RNN are always said, as its default names two, whatever the directions.
_USUAL = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def _activations(op_type: str, cell: Any, directions: int) -> dict[str, Any]:
    """The attributes that say the activations of a cell."""
    gates = [] if op_type == "RNN" else [cell.recurrent_activation]
    own = [cell.activation] * (2 if op_type == "LSTM" else 1)
    chosen = [_ACTIVATIONS[function] for function in (*gates, *own)]
    names = [name for name, *_ in chosen]
    # only the functions that take such a number have a place in these lists
    return {
        "activations": None if names == _USUAL.get(op_type) else names * directions,
        "activation_alpha": [numbers[0] for _, *numbers in chosen if numbers] * directions or None,
        "activation_beta": [numbers[1] for _, *numbers in chosen if len(numbers) > 1] * directions or None,
    }


def _two_biases(bias: np.ndarray, order: tuple[int, ...], reset_after: bool) -> np.ndarray:
    """Keras' bias (or two, of a GRU that resets after) as the standard's: of the input, then of the state."""
    rows = bias if reset_after else np.stack([bias, np.zeros_like(bias)])
    return np.concatenate([np.split(row, len(order))[i] for row in rows for i in order])


def _initial(site: CallSite, given: list[ir.Value] | None, count: int, directions: int) -> list[ir.Value]:
    """(directions, batch, units) of each state; ``given`` has the states of one direction after the other."""
    if given is None:
        return []
    each = [given[i::count] for i in range(count)]
    wide = [[site.unsqueeze(v, 0) for v in values] for values in each]
    return [values[0] if directions == 1 else site.op("Concat", *values, axis=0) for values in wide]


# --- wrappers ---------------------------------------------------------------------------------------------------------


@layer("Bidirectional", masks=True, arguments=True)
def bidirectional(site: CallSite) -> Any:
    kind, mask = site.layer, _one(site.mask)
    initial = _states(site.args[1] if len(site.args) > 1 else site.kwargs.get("initial_state"))
    forward, backward = kind.forward_layer, kind.backward_layer
    if kind.stateful:
        site.refuse(_STATEFUL)
    if mask is not None or not _alike(forward, backward):
        return site.reader.open(site)
    ys, finals = _node(site, [forward.cell, backward.cell], site.x, initial)
    states = [[site.op("Gather", f, d, axis=0) for f in finals] for d in range(2)]
    if not kind.return_sequences:
        output = _merged(site, kind.merge_mode, [first for first, *_ in states])
    elif kind.merge_mode == "concat":
        joined = site.op("Reshape", site.transpose(ys, [0, 2, 1, 3]), [0, 0, -1])
        output = site.transpose(joined, [1, 0, 2])
    else:
        halves = site.op("Split", ys, axis=1, num_outputs=2, outputs=2)
        pair = [site.transpose(site.squeeze(half, 1), [1, 0, 2]) for half in halves]
        output = _merged(site, kind.merge_mode, pair)
    if not kind.return_state:
        return output
    return (*(output if isinstance(output, tuple) else (output,)), *states[0], *states[1])


def _alike(forward: Any, backward: Any) -> bool:
    """Whether one node can implement both directions."""
    first, second = forward.cell, backward.cell
    if type(first) is not type(second) or type(first) not in _CELLS or not (_known(first) and _known(second)):
        return False
    same = ("units", "use_bias", "activation", "recurrent_activation", "reset_after")
    turned = not forward.go_backwards and backward.go_backwards and not (forward.stateful or backward.stateful)
    return turned and all(getattr(first, n, None) == getattr(second, n, None) for n in same)


def _merged(site: CallSite, mode: str | None, pair: list[ir.Value]) -> Any:
    if mode is None:
        return tuple(pair)
    if mode == "concat":
        return site.op("Concat", *pair, axis=-1)
    joined = site.op("Mul" if mode == "mul" else "Add", *pair)
    return joined / 2.0 if mode == "ave" else joined


#: Layers that work on the last axis or on each element, so that the time axis needs no treatment.
_BLIND = ("Dense", "Activation", "Dropout", "ReLU", "LeakyReLU", "ELU", "Identity", "Rescaling")


@layer("TimeDistributed", masks=True)
def time_distributed(site: CallSite) -> Any:
    inner, x = site.layer.layer, site.x
    if site.mask is not None and inner._call_has_mask_arg:
        site.refuse("a mask for a layer that heeds it at each step")
    blind = type(inner) in [getattr(keras.layers, n) for n in _BLIND] and not getattr(inner, "noise_shape", None)
    if blind and site.rank(x) > 2:
        return site.reader.call(inner, (x,), {})
    flat = site.op("Reshape", x, site.op("Concat", [-1], site.op("Shape", x, start=2), axis=0))
    y = keras.tree.flatten(site.reader.call(inner, (flat,), {}))[0]
    return site.op("Reshape", y, site.op("Concat", site.op("Shape", x, end=2), site.op("Shape", y, start=1), axis=0))
