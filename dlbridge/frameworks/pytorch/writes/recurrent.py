"""RNN, LSTM and GRU: PyTorch's layers where they compute the node, else a helper with ONNX's formula.

Formulas: the ONNX standard, operators RNN-22, GRU-22 and LSTM-22.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.legalise.recurrent_layers import WEIGHTS, nonlinearity
from dlbridge.frameworks.pytorch.rules import FORM, rules
from dlbridge.ops import traits
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.recurrent import STATES, as_read, by_formula, directions
from dlbridge.source.tree.code import Code, Literal, call, code
from dlbridge.source.tree.expr import LayerHere
from dlbridge.source.weights import View, Weight

#: Op -> the place of each of ONNX's gates in PyTorch's order.
_GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
#: Inputs of a legalised node.
_LENGTHS, _STATE = 1, 2


@rules("RNN", "GRU", "LSTM", domain=FORM)
def layer(op: Op) -> Emit:
    """The layer that ``pytorch.recurrent_layers`` has found the node to be."""
    batch_first, is_backwards = bool(op.attr("batch_first")), op.attr("direction") == "reverse"
    x = code("{}.flip({time})", op.x, time=1 if batch_first else 0) if is_backwards else op.x
    states = _initial_states(op)
    if op.has(_LENGTHS):
        made = call("packed", LayerHere(), x, op[_LENGTHS], *states)
    else:
        made = call(LAYER, x, *states)
    weights = _weights(op)
    layer = Layer(_new(op), weights, _frozen(op, weights))
    if op.attr("gives") == "layer":
        return Emit(made, layer, targets=_targets(op))
    options = {"batch_first": batch_first or None, "backwards": is_backwards or None}
    return as_read(op, call("onnx_outputs", made, directions(op), **options), layer)


@rules("RNN", "GRU", "LSTM")
def formula(op: Op) -> Emit:
    """The helper that computes ONNX's formula on tensors."""
    return by_formula(op, is_usual=nonlinearity(op) == "tanh")


def _new(op: Op) -> Code:
    """The code that makes the layer."""
    layers, dropout = op.attr("num_layers", 1), op.attr("dropout", 0.0)
    keywords: dict[str, Any] = {
        "num_layers": layers if layers > 1 else None,
        "nonlinearity": "relu" if nonlinearity(op) == "relu" else None,
        "bias": None if op.has(WEIGHTS + 2) else False,
        "batch_first": bool(op.attr("batch_first")) or None,
        "dropout": dropout or None,
        "bidirectional": directions(op) == 2 or None,
    }
    sizes = {"input_size": (op.shape(WEIGHTS) or [])[2], "hidden_size": (op.shape(WEIGHTS + 1) or [])[2]}
    given = [Literal(size, name) for name, size in sizes.items()]
    return call(f"nn.{op.key}", *given, **keywords)


def _targets(op: Op) -> str:
    """``output, (h, c)``; ``_`` for what nothing reads."""
    if not (op.used(1) or op.used(2)):
        return "{0}, _"
    places = [f"{{{i}}}" if i < len(op.node.outputs) else "_" for i in range(1, STATES[op.key] + 1)]
    return f"{{0}}, {places[0]}" if len(places) == 1 else f"{{0}}, ({', '.join(places)})"


def _initial_states(op: Op) -> list[Any]:
    """The argument for the initial states, if any is given: h, or (h, c)."""
    slots = range(_STATE, _STATE + STATES[op.key])
    if not any(op.has(slot) for slot in slots):
        return []
    states = [_initial_state(op, slot) for slot in slots]
    return states if len(states) == 1 else [tuple(states)]


def _initial_state(op: Op, slot: int) -> Code | ir.Value:
    """One of them as the layer takes it: (layers * directions, batch, hidden)."""
    if not op.has(slot):
        batch = op.dim(0, 0 if op.attr("batch_first") else 1)
        return code("{}.new_zeros({})", op.x, (directions(op), batch, (op.shape(WEIGHTS + 1) or [])[2]))
    return code("{}.transpose(0, 1)", op[slot]) if op.attr("layout") else op[slot]


def _weights(op: Op) -> dict[str, Weight]:
    """The weights of the layer, cut from ONNX's, which hold all directions and both biases."""
    found: dict[str, Weight] = {}
    for number in range(op.attr("num_layers", 1)):
        found |= _weights_of(op, WEIGHTS + 3 * number, number)
    return found


def _weights_of(op: Op, first: int, number: int) -> dict[str, Weight]:
    """The weights of one layer of the stack: the inputs ``first`` and the two behind it."""
    w, r, b = (op.initializer(first + i) for i in range(3))
    rows, gates = (op.shape(first) or [0, 0])[1], _GATES[op.key]
    assert w is not None and r is not None and isinstance(rows, int)
    reorder = (("blocks", 0, gates),) if len(gates) > 1 else ()
    found: dict[str, Weight] = {}
    for d in range(directions(op)):
        end = f"l{number}_reverse" if d else f"l{number}"
        found[f"weight_ih_{end}"] = Weight((View(w, (("index", d), *reorder)),))
        found[f"weight_hh_{end}"] = Weight((View(r, (("index", d), *reorder)),))
        if b is not None:
            found[f"bias_ih_{end}"] = Weight((View(b, (("index", (d, slice(0, rows))), *reorder)),))
            found[f"bias_hh_{end}"] = Weight((View(b, (("index", (d, slice(rows, 2 * rows))), *reorder)),))
    return found


def _frozen(op: Op, weights: dict[str, Weight]) -> frozenset[str]:
    """The slots of biases that do not train: PyTorch has two where the model has one, and their sum is what counts."""
    both = traits.trains_both_biases(op.node)
    return frozenset() if both else frozenset(slot for slot in weights if slot.startswith("bias_hh"))
