"""Recurrent layers. ONNX has the time first (``layout=0``) and a direction axis; Keras has neither."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.legalise.recurrent_layers import MASK, activation_names
from dlbridge.frameworks.keras.rules import FORM, keras_dtype, kinds_of, rules
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.recurrent import LENGTHS, STATE, STATES, as_read, by_formula, directions
from dlbridge.source.tree.code import Code, Raw, call, code
from dlbridge.source.weights import View, Weight

#: Op -> (layer, its name in variable paths, gates in Keras' order as places in ONNX' order).
_KINDS = {
    "RNN": ("SimpleRNN", "simple_rnn", (0,)),
    "LSTM": ("LSTM", "lstm", (0, 2, 3, 1)),
    "GRU": ("GRU", "gru", (0, 1, 2)),
}


@rules("RNN", "LSTM", "GRU", domain=FORM)
def layer(op: Op) -> Emit:
    """The layer that ``keras.recurrent_layers`` has found the node to be."""
    gives, is_backwards = op.attr("gives"), op.attr("direction") == "reverse"
    read = [i for i in range(len(op.node.outputs)) if op.used(i)]
    gives_state = gives != "layer" or read not in ([0], [1])  # without its states, a layer gives its last output
    layer = Layer(_new(op, {"return_sequences": 0 in read, "return_state": gives_state}), _weights(op))
    x: Any = call("ops.transpose", op.x, (1, 0, 2)) if op.attr("time_first") else op.x
    mask = op[MASK] if op.has(MASK) else None
    if op.has(LENGTHS):
        mask = call("steps_before", x, op[LENGTHS])
    made = call(LAYER, x, mask=mask, initial_state=_initial_states(op) or None)
    if gives == "layer":
        turned = code("ops.flip({}, axis=1)", made) if is_backwards and read == [0] else made
        return Emit(turned, layer, targets=_targets(read, STATES[op.key], gives_state))
    options = {"directions": 2 if directions(op) == 2 else None, "batch_first": True if op.attr("layout") else None}
    if gives == "all":
        options["backwards"] = True if is_backwards else None
    return as_read(op, call("onnx_outputs" if gives == "all" else "onnx_states", made, **options), layer)


def _targets(read: list[int], states: int, gives_state: bool) -> str:
    """The outputs that are read, among those that the layer gives."""
    if not gives_state:
        return f"{{{read[0]}}}"
    return ", ".join(f"{{{i}}}" if i in read else "_" for i in range(states + 1))


@rules("RNN", "LSTM", "GRU")
def formula(op: Op) -> Emit:
    """The helper that computes ONNX's formula on tensors."""
    return by_formula(op, is_usual=activation_names(op) == {})


def _initial_states(op: Op) -> list[Code]:
    """The states that are given, one after the other, of each direction; zeros for those of two that are not."""
    indices = range(STATE, STATE + STATES[op.key])
    given = [i for i in indices if op.has(i)]
    if not given:
        return []
    found: list[Code] = []
    for direction in range(directions(op)):
        for i in indices:
            state = _of_direction(op, op[i if op.has(i) else given[0]], direction)
            found.append(state if op.has(i) else call("ops.zeros_like", state))
    return found


def _of_direction(op: Op, states: Any, direction: int) -> Code:
    """``(batch, units)`` of ONNX's states."""
    if directions(op) == 1:
        return call("ops.squeeze", states, axis=1 if op.attr("layout") else 0)
    return code("{}[:, {}]" if op.attr("layout") else "{}[{}]", states, direction)


def _new(op: Op, returned: dict[str, bool]) -> Code:
    """The code that makes the layer."""
    layer, name, _ = _KINDS[op.key]
    weights = _weights(op)
    keywords: dict[str, Any] = {key: op.attr(key) for key in ("activation", "recurrent_activation")}
    keywords |= {key: True for key, wanted in returned.items() if wanted}
    if op.key == "GRU" and not op.attr("linear_before_reset"):
        keywords["reset_after"] = False
    if not any(k.endswith("bias") for k in weights):
        keywords["use_bias"] = False
    if kinds_of(weights, op.node) == {"frozen"}:
        keywords["trainable"] = False  # Bidirectional does not hand its own on
    if op.attr("direction") == "reverse":
        keywords["go_backwards"] = True
    is_zero = op.attr("zero_masked") or (op.has(LENGTHS) and directions(op) == 1)
    if is_zero and returned.get("return_sequences"):
        keywords["zero_output_for_mask"] = True
    if op.out_dtype() == ir.DataType.BFLOAT16:  # Keras' own, orthogonal, cannot be drawn in it
        keywords["recurrent_initializer"] = Raw('"glorot_uniform"')
    if directions(op) == 2:
        keywords["name"] = name  # its variables are forward_lstm/..., however many there are
        if op.out_dtype() != ir.DataType.FLOAT:
            keywords["dtype"] = keras_dtype(op, op.out_dtype())  # Bidirectional does not hand its own on
    new = call(f"layers.{layer}", op.attr("hidden_size"), **keywords)
    return new if directions(op) == 1 else code("layers.Bidirectional({})", new)


def _weights(op: Op) -> dict[str, Weight]:
    """The layer's weights, cut from ONNX's, which hold all directions and both biases."""
    kind = op.key
    _, layer, order = _KINDS[kind]
    cell = f"{layer}_cell"
    names = [op.initializer(i) for i in (1, 2, 3)]
    assert names[0] is not None and names[1] is not None
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
