"""RNN, LSTM and GRU: PyTorch's layers where they compute the node, else a helper with ONNX's formula.

Formulas: the ONNX standard, operators RNN-22, GRU-22 and LSTM-22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import DONE, rules
from dlbridge.frameworks.pytorch.stacks import DOMAIN as STACK
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.expr import LayerHere
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.recurrent import (
    LENGTHS,
    PEEPHOLES,
    STATE,
    activations,
    by_formula,
    directions,
    native_readers,
    readers,
    turns,
)
from dlbridge.source.weights import View, Weight


@dataclass(frozen=True)
class _Kind:
    """How PyTorch has a recurrent op: its class, and the place of each of ONNX's gates."""

    layer: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]
    states: int


_KINDS = {
    "RNN": _Kind("nn.RNN", (0,), ("Tanh",), 1),
    "GRU": _Kind("nn.GRU", (1, 0, 2), ("Sigmoid", "Tanh"), 1),
    "LSTM": _Kind("nn.LSTM", (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh"), 2),
}


@rules("RNN", "GRU", "LSTM")
def recurrent(op: Op) -> Emit:
    kind = _KINDS[op.key]
    weights = _weights(op, kind)
    fits = weights is not None and _usual_activations(op, kind) is not None and not op.has(PEEPHOLES)
    fits = fits and op.attr("clip") is None and not op.attr("input_forget", 0)
    fits = fits and (op.key != "GRU" or op.attr("linear_before_reset") == 1)
    fits = fits and not (op.has(LENGTHS) and op.attr("direction") == "reverse")
    return _layer(op, kind, weights or {}) if fits else _formula(op, kind)


def _usual_activations(op: Op, kind: _Kind) -> str | None:
    """PyTorch's name for the activations; None when it has no such layer."""
    count = directions(op)
    given = [a.lower() for a in op.attr("activations") or ()][: len(kind.activations) * count]
    if not given or given == [a.lower() for a in kind.activations] * count:
        return "tanh"
    return "relu" if op.key == "RNN" and given == ["relu"] * count else None


def _weights(op: Op, kind: _Kind, first: int = 1, layer: int = 0) -> dict[str, Weight] | None:
    """The weights of a layer of the stack, cut from ONNX's, which hold all directions and both biases.

    ONNX's are the inputs ``first`` and the two behind it.
    """
    names = [op.initializer(first + i) for i in range(3)]
    given = [op.value(first + i) for i in range(3)]
    if any(v is not None and v.is_initializer() and traits.kind(v) not in ("parameter", "frozen") for v in given):
        return None
    if names[0] is None or names[1] is None or (op.has(first + 2) and names[2] is None):
        return None
    rows = (op.shape(first) or [0, 0])[1]
    assert isinstance(rows, int)
    reorder = (("blocks", 0, kind.gates),) if len(kind.gates) > 1 else ()
    weights: dict[str, Weight] = {}
    for d in range(directions(op)):
        end = f"l{layer}_reverse" if d else f"l{layer}"
        weights[f"weight_ih_{end}"] = Weight((View(names[0], (("index", d), *reorder)),))
        weights[f"weight_hh_{end}"] = Weight((View(names[1], (("index", d), *reorder)),))
        if names[2] is not None:
            weights[f"bias_ih_{end}"] = Weight((View(names[2], (("index", (d, slice(0, rows))), *reorder)),))
            weights[f"bias_hh_{end}"] = Weight((View(names[2], (("index", (d, slice(rows, 2 * rows))), *reorder)),))
    return weights


def _frozen(op: Op, weights: dict[str, Weight]) -> frozenset[str]:
    """The slots of biases that do not train: PyTorch has two where the model has one, and their sum is what counts."""
    both = traits.trains_both_biases(op.node)
    return frozenset() if both else frozenset(slot for slot in weights if slot.startswith("bias_hh"))


def _layer(op: Op, kind: _Kind, weights: dict[str, Weight]) -> Emit:
    layout, backwards = bool(op.attr("layout")), op.attr("direction") == "reverse"
    native = native_readers(op, layout) if op.used(0) and not backwards else None
    turned = None if layout or backwards else _batch_first(op, native)
    batch_first = layout or turned is not None
    layer = Layer(_new(op, kind, batch_first), weights, _frozen(op, weights))
    x = op.x if turned is None else turned.inputs[0]
    x = code("{}.flip({time})", x, time=1 if batch_first else 0) if backwards else x
    states = _initial_states(op, kind, layout)
    if op.has(LENGTHS):
        made = call("packed", LayerHere(), x, op[LENGTHS], *([states] if states else []))
    else:
        made = call(LAYER, x, *([states] if states is not None else []))
    return _results(op, kind, made, layer, native)


def _new(op: Op, kind: _Kind, batch_first: bool, first: int = 1) -> Code:
    """The code that makes the layer; its weights are the inputs from ``first`` on."""
    layers, dropout = op.attr("num_layers", 1), op.attr("dropout", 0.0)
    text = f"{kind.layer}({{input_size}}, {{hidden_size}}"
    text += ", num_layers={num_layers}" if layers > 1 else ""
    text += ', nonlinearity="relu"' if _usual_activations(op, kind) == "relu" else ""
    text += "" if op.has(first + 2) else ", bias=False"
    text += ", batch_first=True" if batch_first else ""
    text += ", dropout={dropout}" if dropout else ""
    text += ", bidirectional=True" if directions(op) == 2 else ""
    sizes = {"input_size": (op.shape(first) or [])[2], "hidden_size": (op.shape(first + 1) or [])[2]}
    return code(text + ")", num_layers=layers, dropout=dropout, **sizes)


@rules("RNN", "GRU", "LSTM", domain=STACK)
def stack(op: Op) -> Emit:
    kind, turn, after = _KINDS[op.key], op.value(0).producer(), readers(op.output(0))  # type: ignore[union-attr]
    first = 1 + kind.states
    weights: dict[str, Weight] = {}
    for layer in range(op.attr("num_layers")):
        weights |= _weights(op, kind, first + 3 * layer, layer) or {}
    assert op.node.graph is not None
    calls = [n for n in op.node.graph if n.domain == STACK and n.name == op.node.name]
    batch_first = all(_is_batch_first(n) for n in calls)  # one layer, one layout
    for node in after if batch_first else ():
        node.meta[DONE] = True  # type: ignore[union-attr]
    states = [op[i] for i in range(1, first) if op.has(i)]
    given = [] if not states else [states[0] if kind.states == 1 else tuple(states)]
    made = call(LAYER, turn.inputs[0] if batch_first and turn is not None else op.x, *given)
    places = [f"{{{i + 1}}}" for i in range(kind.states)]
    finals = "_" if not (op.used(1) or op.used(2)) else places[0] if kind.states == 1 else f"({', '.join(places)})"
    layer = Layer(_new(op, kind, batch_first, first), weights, _frozen(op, weights))
    return Emit(made, layer, targets=f"{{0}}, {finals}")


def _is_batch_first(node: ir.Node) -> bool:
    around = (node.inputs[0].producer(), *readers(node.outputs[0]))  # type: ignore[union-attr]
    return all(n is not None and turns(n, [1, 0, 2]) for n in around)


def _initial_states(op: Op, kind: _Kind, layout: bool) -> Any:
    indices = range(STATE, STATE + kind.states)
    if not any(op.has(i) for i in indices):
        return None
    shape = (directions(op), op.dim(0, 0 if layout else 1), (op.shape(2) or [])[2])
    given = [op[i] if op.has(i) else code("{}.new_zeros({})", op.x, shape) for i in indices]
    if layout:
        given = [code("{}.transpose(0, 1)", s) if op.has(i) else s for s, i in zip(given, indices, strict=True)]
    return given[0] if kind.states == 1 else tuple(given)


def _results(op: Op, kind: _Kind, made: Code, layer: Layer, native: list[ir.Node] | None) -> Emit:
    """The call: PyTorch's own outputs where that is all that is read, else brought into ONNX's layout."""
    layout, backwards = bool(op.attr("layout")), op.attr("direction") == "reverse"
    reads_states = op.used(1) or op.used(2)
    if (native is not None or not op.used(0)) and not (layout and reads_states):
        for node in native or ():
            node.meta[DONE] = True
        places = [f"{{{i + 1}}}" if i + 1 < len(op.node.outputs) else "_" for i in range(kind.states)]
        states = "_" if not reads_states else places[0] if kind.states == 1 else f"({', '.join(places)})"
        return Emit(made, layer, targets=f"{{0}}, {states}")
    options = {"batch_first": True if layout else None, "backwards": True if backwards else None}
    return Emit(_cut(op, kind, call("onnx_outputs", made, directions(op), **options)), layer)


def _cut(op: Op, kind: _Kind, whole: Code) -> Code:
    """As many results as the node has outputs."""
    count = len(op.node.outputs)
    if count == 1:
        return code("{}[0]", whole)
    return whole if count == kind.states + 1 else code(f"{{}}[:{count}]", whole)


def _batch_first(op: Op, native: list[ir.Node] | None) -> ir.Node | None:
    """The node that brings x from (batch, time, size) to (time, batch, size), when y goes the way back.

    The nodes that turn y back are then among the native ones.
    """
    turn = op.value(0).producer()  # type: ignore[union-attr]
    if turn is None or not turns(turn, [1, 0, 2]):
        return None
    if not op.used(0):
        return turn
    ends = [n for n in native or () if not is_op(n, "Transpose")]
    after = [reader for end in ends for reader in readers(end.outputs[0])]
    if native is None or any(n is None or not turns(n, [1, 0, 2]) for n in after):
        return None
    native += [n for n in after if n is not None]
    return turn


def _formula(op: Op, kind: _Kind) -> Emit:
    """The helper that computes ONNX's formula on tensors."""
    usual = _usual_activations(op, kind) == "tanh"
    named = None if usual else activations(op, len(kind.activations) * directions(op))
    return Emit(_cut(op, kind, by_formula(op, op.x, named)))
