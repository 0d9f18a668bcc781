"""Recurrent layers. ONNX has the time first (``layout=0``) and a direction axis; Keras has neither."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import DONE, keras_dtype, kinds_of, rules
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.source.code import Code, Raw, call, code, single
from dlbridge.source.definitions import LAYER
from dlbridge.source.names import quoted
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.recurrent import (
    LENGTHS,
    PEEPHOLES,
    STATE,
    activations,
    becomes,
    by_formula,
    constant,
    directions,
    native_readers,
    readers,
    turns,
)
from dlbridge.source.weights import View, Weight

#: Op -> (layer, its name in variable paths, gates in Keras' order as places in ONNX' order).
_KINDS = {
    "RNN": ("SimpleRNN", "simple_rnn", (0,)),
    "LSTM": ("LSTM", "lstm", (0, 2, 3, 1)),
    "GRU": ("GRU", "gru", (0, 1, 2)),
}
#: The standard's activations as Keras calls them, with the numbers that make them the same.
_ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "tanh": ("tanh",),
    "sigmoid": ("sigmoid",),
    "relu": ("relu",),
    "softsign": ("softsign",),
    "softplus": ("softplus",),
    "hardsigmoid": ("hard_sigmoid", single(1 / 6), 0.5),
    "elu": ("elu", 1.0),
    "leakyrelu": ("leaky_relu", 0.2),
    "affine": ("linear", 1.0, 0.0),
}
_DEFAULTS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


#: In ``node.meta``: its input comes with the batch first, from a layer below, though the node has the time first.
_GIVEN = "keras.batch_first"


@rules("RNN", "LSTM", "GRU")
def recurrent(op: Op) -> Emit:
    weights, names = _weights(op), _activations(op)
    fits = weights is not None and names is not None and not op.has(PEEPHOLES)
    fits = fits and op.attr("clip") is None and not op.attr("input_forget", 0)
    return _layer(op, weights or {}, names or {}) if fits else _formula(op)


def _activations(op: Op) -> dict[str, str] | None:
    """The keywords for activations other than the layer's own; None when Keras has no such layer."""
    kind, count = op.key, directions(op)
    usual = _DEFAULTS[kind]
    given = activations(op, len(usual) * count) or [(name.lower(),) for name in usual * count]
    if any(_ACTIVATIONS.get(name, ("", -1))[1:] != tuple(numbers) for name, *numbers in given):
        return None
    each = [[_ACTIVATIONS[name][0] for name, *_ in given[d * len(usual) : (d + 1) * len(usual)]] for d in range(count)]
    if each[0] != each[-1] or (kind == "LSTM" and each[0][1] != each[0][2]):
        return None
    found = {"activation": each[0][-1]} | ({"recurrent_activation": each[0][0]} if kind != "RNN" else {})
    plain = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    return {k: v for k, v in found.items() if v != plain[k]}


def _layer(op: Op, weights: dict[str, Weight], names: dict[str, str]) -> Emit:
    batch_first = bool(op.attr("layout"))
    x: Any = op.x
    if not batch_first and not op.node.meta.get(_GIVEN):
        turn = op.value(0).producer()  # type: ignore[union-attr]
        known = turn is not None and turns(turn, [1, 0, 2])
        x = turn.inputs[0] if known else call("ops.transpose", x, (1, 0, 2))  # type: ignore[union-attr]
    keywords: dict[str, Any] = {}
    if op.has(LENGTHS):
        keywords["mask"] = call("steps_before", x, op[LENGTHS])
    states = _initial_states(op, batch_first)
    keywords |= {"initial_state": states} if states else {}
    return _results(op, weights, names, call(LAYER, x, **keywords))


def _results(op: Op, weights: dict[str, Weight], names: dict[str, str], made: Code) -> Emit:
    """The call: with the layer's own outputs where the graph brings its own into their form, else in ONNX's layout."""
    batch_first, backwards = bool(op.attr("layout")), op.attr("direction") == "reverse"
    read = [i for i in range(3) if op.used(i)]
    turned, sequence = (native_readers(op, batch_first), _sequence(op)) if 0 in read else (None, [])
    states = [_native_states(op, i, batch_first) for i in read if i > 0]
    returned = ({"return_sequences": True} if 0 in read else {}) | ({"return_state": True} if read[-1:] > [0] else {})
    done, targets = None, ", ".join(f"{{{i}}}" if i in read else "_" for i in range(len(_states(op)) + 1))
    if read == [0] and turned is not None:
        done, targets = sequence or turned, "{0}"
        made = code("ops.flip({}, axis=1)", made) if backwards else made
        made = made if sequence or batch_first else call("ops.transpose", made, (1, 0, 2))
    elif read == [1] and states != [None]:
        done, targets, returned = states[0], "{1}", {}
    elif directions(op) == 1 and sequence is not None and None not in states:
        done = [*sequence, *(n for nodes in states for n in nodes or ())]
    if done is None:
        done, targets = sequence or [], ""
        options = {"directions": 2 if directions(op) == 2 else None, "batch_first": True if batch_first else None}
        options |= {} if sequence is not None else {"backwards": True if backwards else None}
        made = _cut(op, call("onnx_outputs" if sequence is None else "onnx_states", made, **options))
        returned |= {"return_state": True}
    for node in done:
        node.meta[_GIVEN if op_key(node) in _KINDS else DONE] = True
    return Emit(made, Layer(_new(op, weights, names, returned), weights), targets=targets or None)


def _sequence(op: Op) -> list[ir.Node] | None:
    """The nodes that bring Y into (batch, time, directions * units), when nothing else reads it."""
    nodes = native_readers(op, bool(op.attr("layout")))
    if nodes is None or op.attr("direction") == "reverse":
        return None
    if op.attr("layout"):
        return nodes
    ends = [n for n in nodes if not is_op(n, "Transpose")]
    after = [n for end in ends for n in readers(end.outputs[0])]
    turning = [n for n in after if n is not None and (turns(n, [1, 0, 2]) or _follows(n, ends))]
    return [*nodes, *turning] if turning and len(turning) == len(after) else None


def _states(op: Op) -> range:
    return range(1, 3 if op.key == "LSTM" else 2)


def _cut(op: Op, whole: Code) -> Code:
    """As many results as the node has outputs."""
    count = len(op.node.outputs)
    if count == 1:
        return code("{}[0]", whole)
    return whole if count == len(_states(op)) + 1 else code(f"{{}}[:{count}]", whole)


def _follows(node: ir.Node, ends: list[ir.Node]) -> bool:
    """Whether a node is the next of stacked layers, which takes the batch first, too."""
    stacked = op_key(node) in _KINDS and "layout" not in node.attributes
    return stacked and [i for i, v in enumerate(node.inputs) if v is not None and v.producer() in ends] == [0]


def _native_states(op: Op, index: int, batch_first: bool) -> list[ir.Node] | None:
    """The nodes that bring last states into (batch, directions * units), when nothing else reads them."""
    found: list[ir.Node] = []
    for node in readers(op.output(index)):
        nodes = None if node is None else _native_state(op, node, batch_first)
        if nodes is None or (directions(op) == 2 and index == 2):
            return None
        found += nodes
    return found


def _native_state(op: Op, node: ir.Node, batch_first: bool) -> list[ir.Node] | None:
    """The nodes by which one reader brings a state from (directions, batch, units) to (batch, directions * units)."""
    axis = 1 if batch_first else 0
    if directions(op) == 1 and is_op(node, "Squeeze") and constant(node, 1) == [axis]:
        return [node]
    if directions(op) == 1 and _takes(node, axis) is not None:
        return [node]
    if _takes(node, axis) == 0 and directions(op) == 2:
        pair = [n for n in readers(op.output(1)) if n is not None]
        ends = [readers(n.outputs[0]) for n in pair]
        joined = ends[0][0] if ends and ends[0] else None
        fits = joined is not None and is_op(joined, "Concat") and joined.attributes["axis"].as_int() in (1, -1)
        fits = fits and [_takes(n, axis) for n in pair] == [0, 1] and all(e == [joined] for e in ends)
        return [*pair, joined] if fits and list(joined.inputs) == [n.outputs[0] for n in pair] else None  # type: ignore[union-attr, list-item]
    if _takes(node, axis) == 1:
        return []  # its fellow, which takes the first, sees to it
    if batch_first and _flattens(node):
        return [node]
    after = readers(node.outputs[0])
    if not batch_first and turns(node, [1, 0, 2]) and after and all(n is not None and _flattens(n) for n in after):
        return [node, *(n for n in after if n is not None)]
    return None


def _takes(node: ir.Node, axis: int) -> int | None:
    """Which direction a node takes of the states, counted from the front; None when it does not take one."""
    value = node.inputs[1] if is_op(node, "Gather") else None
    if value is None or value.const_value is None or value.const_value.numpy().ndim != 0:
        return None
    states, at = node.inputs[0], node.attributes.get("axis")
    count = states.shape[axis] if states is not None and states.shape is not None else None
    if not isinstance(count, int) or (at.as_int() if at is not None else 0) != axis:
        return None
    return int(value.const_value.numpy()) % count


def _flattens(node: ir.Node) -> bool:
    """Whether a node reshapes (batch, directions, units) to (batch, directions * units)."""
    if is_op(node, "Flatten"):
        return "axis" not in node.attributes or node.attributes["axis"].as_int() == 1
    target = constant(node, 1) if is_op(node, "Reshape") else None
    size = [] if node.inputs[0] is None or node.inputs[0].shape is None else list(node.inputs[0].shape)
    known = [d for d in size[1:] if isinstance(d, int)]
    return target is not None and len(size) == 3 and len(known) == 2 and becomes(target, [size[0], known[0] * known[1]])


def _initial_states(op: Op, batch_first: bool) -> list[Code]:
    indices = [i + STATE - 1 for i in _states(op)]
    given = [i for i in indices if op.has(i)]
    if not given:
        return []
    template = "{}[:, {}]" if batch_first else "{}[{}]"
    if directions(op) == 1:
        states = [call("ops.squeeze", op[i if op.has(i) else given[0]], axis=1 if batch_first else 0) for i in indices]
        states = [s if op.has(i) else call("ops.zeros_like", s) for s, i in zip(states, indices, strict=True)]
        return states
    parts = [(i, code(template, op[i if op.has(i) else given[0]], d)) for d in range(2) for i in indices]
    return [part if op.has(i) else call("ops.zeros_like", part) for i, part in parts]


def _new(op: Op, weights: dict[str, Weight], names: dict[str, str], returned: dict[str, bool]) -> Code:
    layer, name, _ = _KINDS[op.key]
    keywords: dict[str, Any] = {k: Raw(quoted(v)) for k, v in names.items()} | returned
    if op.key == "GRU" and not op.attr("linear_before_reset"):
        keywords["reset_after"] = False
    if not any(k.endswith("bias") for k in weights):
        keywords["use_bias"] = False
    if kinds_of(weights, op.node) == {"frozen"}:
        keywords["trainable"] = False  # Bidirectional does not hand its own on
    if op.attr("direction") == "reverse":
        keywords["go_backwards"] = True
    if op.has(LENGTHS) and returned.get("return_sequences") and directions(op) == 1:
        keywords["zero_output_for_mask"] = True
    if op.out_dtype() == ir.DataType.BFLOAT16:  # Keras' own, orthogonal, cannot be drawn in it
        keywords["recurrent_initializer"] = Raw('"glorot_uniform"')
    if directions(op) == 2:
        keywords["name"] = name  # its variables are forward_lstm/..., however many there are
        if op.out_dtype() != ir.DataType.FLOAT:
            keywords["dtype"] = keras_dtype(op, op.out_dtype())  # Bidirectional does not hand its own on
    new = call(f"layers.{layer}", op.attr("hidden_size"), **keywords)
    return new if directions(op) == 1 else code("layers.Bidirectional({})", new)


def _formula(op: Op) -> Emit:
    """The helper that computes ONNX's formula on tensors."""
    named = None if _activations(op) == {} else activations(op, len(_DEFAULTS[op.key]) * directions(op))
    x = call("ops.transpose", op.x, (1, 0, 2)) if op.node.meta.get(_GIVEN) else op.x
    return Emit(_cut(op, by_formula(op, x, named)))


def _weights(op: Op) -> dict[str, Weight] | None:
    """The layer's weights, cut from ONNX's, which hold all directions and both biases; None when they are computed."""
    kind = op.key
    _, layer, order = _KINDS[kind]
    cell = f"{layer}_cell"
    names = [op.initializer(i) for i in (1, 2, 3)]
    kinds = {traits.kind(v) for v in op.node.inputs[1:4] if v is not None and v.is_initializer()}
    if kinds not in ({"parameter"}, {"frozen"}):
        return None  # a Keras layer trains all of its weights or none
    if names[0] is None or names[1] is None or (op.has(3) and names[2] is None):
        return None
    hidden, gates = op.attr("hidden_size"), len(order)
    found = {}
    for d in range(directions(op)):
        prefix = cell if directions(op) == 1 else f"{('forward', 'backward')[d]}_{layer}/{cell}"
        turn = (("index", d), ("blocks", 0, order), ("transpose", (1, 0)))
        found[f"{prefix}/kernel"] = Weight.of(names[0], *turn)  # type: ignore[arg-type]
        found[f"{prefix}/recurrent_kernel"] = Weight.of(names[1], *turn)  # type: ignore[arg-type]
        if names[2] is not None:
            found[f"{prefix}/bias"] = _bias(op, names[2], d, gates * hidden, order)
    return found


def _bias(op: Op, name: str, direction: int, size: int, order: tuple[int, ...]) -> Weight:
    if op.key == "GRU" and op.attr("linear_before_reset"):
        return Weight.of(name, ("index", direction), ("reshape", (2, size)))  # the orders of the gates are the same
    parts = (slice(0, size), slice(size, 2 * size))
    return Weight(tuple(View(name, (("index", (direction, p)), ("blocks", 0, order))) for p in parts))
