"""Recurrent layers. ONNX has the time first (``layout=0``) and a direction axis; Keras has neither."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import keras_dtype, rules
from dlbridge.source.code import Code, Raw, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.weights import View, Weight

#: Op -> (layer, its name in variable paths, gates in Keras' order as places in ONNX' order).
_KINDS = {
    "RNN": ("SimpleRNN", "simple_rnn", (0,)),
    "LSTM": ("LSTM", "lstm", (0, 2, 3, 1)),
    "GRU": ("GRU", "gru", (0, 1, 2)),
}
#: The standard's activations as Keras calls them, with the alpha and beta that make them the same.
_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "Tanh": ("tanh", None, None),
    "Sigmoid": ("sigmoid", None, None),
    "Relu": ("relu", None, None),
    "Softsign": ("softsign", None, None),
    "Softplus": ("softplus", None, None),
    "HardSigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "Elu": ("elu", 1.0, None),
    "LeakyRelu": ("leaky_relu", 0.2, None),
    "Affine": ("linear", 1.0, 0.0),
}
_DEFAULTS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@rules("RNN", "LSTM", "GRU")
def recurrent(op: Op) -> Emit:
    kind = op.node.op_type
    directions = 2 if op.attr("direction") == "bidirectional" else 1
    if op.attr("clip") is not None:
        op.refuse("a clip")
    if op.has(7) or op.attr("input_forget"):
        op.refuse("peepholes and coupled gates")
    weights = _weights(op, directions)
    new = _new(op, directions, weights, _activations(op, directions))
    time_first = not op.attr("layout")
    x: Any = call("ops.transpose", op.x, (1, 0, 2)) if time_first else op.x
    states = _initial_states(op, directions, time_first)
    keywords = {"initial_state": states} if states else {}
    lengths = op[4] if op.has(4) else None
    if lengths is not None:
        keywords["mask"] = call("steps_before", x, lengths)
    result = call(LAYER, x, **keywords)
    if lengths is not None:
        result = call("zero_behind", result, lengths)
    outputs = [f"{{{i}}}" for i in range(len(op.node.outputs))]
    outputs += ["_"] * ((3 if kind == "LSTM" else 2) - len(outputs))
    made = call("recurrent_outputs", result, directions=directions, time_first=time_first)
    return Emit(made, Layer(new, weights), targets=", ".join(outputs))


def _activations(op: Op, directions: int) -> dict[str, str]:
    """The keywords for activations other than the layer's own."""
    kind = op.node.op_type
    usual = _DEFAULTS[kind]
    given = list(op.attr("activations") or usual * directions)[: len(usual) * directions]
    alphas, betas = (iter(op.attr(f"activation_{n}") or ()) for n in ("alpha", "beta"))
    for name in given:
        keras, alpha, beta = _ACTIVATIONS.get(name, (None, None, None))
        found = [None if wanted is None else next(left, None) for wanted, left in ((alpha, alphas), (beta, betas))]
        if keras is None or any(
            f is None or abs(f - w) > 1e-7 for f, w in zip(found, (alpha, beta), strict=True) if w is not None
        ):
            op.refuse(f"the activation {name} with these numbers")
    each = [given[d * len(usual) : (d + 1) * len(usual)] for d in range(directions)]
    if each[0] != each[-1] or (kind == "LSTM" and each[0][1] != each[0][2]):
        op.refuse("activations that differ where Keras has one")
    found_names = {"activation": each[0][-1]} | ({"recurrent_activation": each[0][0]} if kind != "RNN" else {})
    plain = {"activation": "Tanh", "recurrent_activation": "Sigmoid"}
    return {k: _ACTIVATIONS[v][0] for k, v in found_names.items() if v != plain[k]}


def _initial_states(op: Op, directions: int, time_first: bool) -> list[Code]:
    if not (op.has(5) or op.has(6)):
        return []
    if op.node.op_type == "LSTM" and not (op.has(5) and op.has(6)):
        op.refuse("one initial state without the other")
    given = [op[i] for i in (5, 6) if op.has(i)]
    template = "{}[{}]" if time_first else "{}[:, {}]"
    return [code(template, state, d) for d in range(directions) for state in given]


def _new(op: Op, directions: int, weights: dict[str, Weight], activations: dict[str, str]) -> Code:
    layer, name, _ = _KINDS[op.node.op_type]
    keywords: dict[str, Any] = {k: Raw(f'"{v}"') for k, v in activations.items()}
    keywords |= {"return_sequences": True, "return_state": True}
    if op.node.op_type == "GRU" and not op.attr("linear_before_reset"):
        keywords["reset_after"] = False
    if not any(k.endswith("bias") for k in weights):
        keywords["use_bias"] = False
    if op.attr("direction") == "reverse":
        op.refuse("a layer in reverse alone")
    if directions == 2:
        keywords["name"] = name  # its variables are forward_lstm/..., however many there are
        if op.out_dtype() != ir.DataType.FLOAT:
            keywords["dtype"] = keras_dtype(op, op.out_dtype())  # Bidirectional does not hand its own on
    new = call(f"layers.{layer}", op.attr("hidden_size"), **keywords)
    return new if directions == 1 else code("layers.Bidirectional({})", new)


def _weights(op: Op, directions: int) -> dict[str, Weight]:
    kind = op.node.op_type
    _, layer, order = _KINDS[kind]
    cell = f"{layer}_cell"
    names = [op.initializer(i) for i in (1, 2, 3)]
    if names[0] is None or names[1] is None or (op.has(3) and names[2] is None):
        op.refuse("computed weights")
    hidden, gates = op.attr("hidden_size"), len(order)
    found = {}
    for d in range(directions):
        prefix = cell if directions == 1 else f"{('forward', 'backward')[d]}_{layer}/{cell}"
        turn = (("index", d), ("blocks", 0, order), ("transpose", (1, 0)))
        found[f"{prefix}/kernel"] = Weight.of(names[0], *turn)  # type: ignore[arg-type]
        found[f"{prefix}/recurrent_kernel"] = Weight.of(names[1], *turn)  # type: ignore[arg-type]
        if names[2] is not None:
            found[f"{prefix}/bias"] = _bias(op, names[2], d, gates * hidden, order)
    return found


def _bias(op: Op, name: str, direction: int, size: int, order: tuple[int, ...]) -> Weight:
    if op.node.op_type == "GRU" and op.attr("linear_before_reset"):
        return Weight.of(name, ("index", direction), ("reshape", (2, size)))  # the orders of the gates are the same
    parts = (slice(0, size), slice(size, 2 * size))
    return Weight(tuple(View(name, (("index", (direction, p)), ("blocks", 0, order))) for p in parts))
