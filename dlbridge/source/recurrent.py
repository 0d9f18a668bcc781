"""RNN, LSTM and GRU: what the writers share. ONNX has the time first (or ``layout=1``) and an axis of directions."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.source.arrays import as_many_as_read
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call

#: Op -> how many states it has.
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
#: Op -> the activations that it has in a direction where it names none.
USUAL = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}


def directions(op: Op) -> int:
    return 2 if op.attr("direction") == "bidirectional" else 1


def clip(op: Op) -> float | None:
    """The largest size of what the gates' activations are given; None where they are given all."""
    threshold = op.attr("clip")
    if threshold is not None and threshold <= 0:
        op.refuse(f"clip={threshold:g}, which is not above zero")
    return threshold


def native_readers(op: Op, layout: bool) -> list[ir.Node] | None:
    """The nodes that bring Y into the form (..., directions * hidden) that layers give, when nothing else reads it."""
    found: list[ir.Node] = []
    for node in readers(op.output(0)):
        if node is None:
            return None
        inner = readers(node.outputs[0])
        if (directions(op) == 1 and _drops(node, 2 if layout else 1)) or (layout and joins(node)):
            found.append(node)
        elif not layout and turns(node, [0, 2, 1, 3]) and all(n is not None and joins(n) for n in inner):
            found += [node, *(n for n in inner if n is not None)]
        else:
            return None
    return found


def _drops(node: ir.Node, axis: int) -> bool:
    """Whether a node removes an axis, whose size is 1."""
    if is_op(node, "Squeeze"):
        return constant(node, 1) == [axis]
    target = constant(node, 1) if is_op(node, "Reshape") else None
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    return target is not None and before is not None and becomes(target, [*before[:axis], *before[axis + 1 :]])


def readers(value: ir.Value) -> list[ir.Node | None]:
    """The nodes that read a value; None stands for the graph that returns it."""
    return [*(node for node, _ in value.uses()), *([None] if value.is_graph_output() else [])]


def turns(node: ir.Node, order: list[int]) -> bool:
    perm = node.attributes.get("perm")
    return is_op(node, "Transpose") and perm is not None and list(perm.as_ints()) == order


def joins(node: ir.Node) -> bool:
    """Whether a node reshapes (a, b, directions, hidden) to (a, b, directions * hidden)."""
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    if not is_op(node, "Reshape") or before is None or len(before) != 4:
        return False
    joined = [d for d in before[2:] if isinstance(d, int)]
    target = constant(node, 1)
    return target is not None and len(joined) == 2 and becomes(target, [*before[:2], joined[0] * joined[1]])


def becomes(target: list[int], shape: list[Any]) -> bool:
    """Whether a Reshape to ``target`` gives ``shape``, known that the number of elements fits."""
    if len(target) != len(shape) or target.count(-1) > 1:
        return False
    last = len(shape) - 1
    return all(t == -1 or t == d or (t == 0 and i < last) for i, (t, d) in enumerate(zip(target, shape, strict=True)))


def constant(node: ir.Node, index: int) -> list[int] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.const_value is None else value.const_value.numpy().reshape(-1).tolist()


def activations(op: Op) -> list[tuple[Any, ...]] | None:
    """(name, alpha, beta) of a node's activations, direction after direction, with the standard's defaults; None when
    the node names none. The numbers are in the order of the activations that take them."""
    given = (op.attr("activations") or [])[: len(USUAL[op.key]) * directions(op)]
    alphas, betas = list(op.attr("activation_alpha") or ()), list(op.attr("activation_beta") or ())
    return [_activation(a, alphas, betas) for a in given] or None


#: Activations that take numbers, and the standard's defaults of these.
_PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (1.0, None),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None),
}


def _activation(name: str, alphas: list[float], betas: list[float]) -> tuple[Any, ...]:
    """(name, alpha, beta), with the numbers taken from the node's lists in the order of the activations."""
    defaults = _PARAMETERS.get(name.lower(), (None, None))
    numbers = [
        (given.pop(0) if given else default)
        for default, given in zip(defaults, (alphas, betas), strict=True)
        if default is not None
    ]
    return (name.lower(), *numbers)


#: Inputs of the three ops: X, W, R, B, sequence_lens, initial_h, initial_c, P.
LENGTHS, STATE, PEEPHOLES = 4, 5, 7


def by_formula(op: Op, *, is_usual: bool = False) -> Emit:
    """A call of the helper that computes ONNX's formula on arrays.

    Args:
        op: An RNN, GRU or LSTM.
        is_usual: Whether its activations are the usual ones.
    """
    named = None if is_usual else activations(op)
    slots = {"bias": 3, "lengths": LENGTHS, "h": STATE, "c": STATE + 1, "peepholes": PEEPHOLES}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)}
    if named is not None:
        keywords["activations"] = named
    direction, limit = op.attr("direction"), clip(op)
    keywords |= {"direction": direction} if direction != "forward" else {}
    keywords |= {"clip": limit} if limit is not None else {}
    keywords |= {n: True for n in ("input_forget", "linear_before_reset") if op.attr(n, 0)}
    keywords |= {"batch_first": True} if op.attr("layout") else {}
    bias = op.value(3)
    is_trained = bias is not None and bias.is_initializer() and traits.is_trained(bias)
    keywords |= {"one_bias": True} if is_trained and not traits.trains_both_biases(op.node) else {}
    return as_read(op, call(f"onnx_{op.key.lower()}", op.x, op[1], op[2], **keywords))


def as_read(op: Op, whole: Code, layer: Layer | None = None) -> Emit:
    """The results of a helper that gives all that ONNX does, of which the node has the first ones as outputs."""
    return Emit(as_many_as_read(op, whole, STATES[op.key] + 1).code, layer)
