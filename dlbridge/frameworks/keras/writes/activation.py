"""Activations: a layer where layers are joined, a function of ``ops`` inside a layer."""

from __future__ import annotations

from typing import Any

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras.rules import ACTIVATION_NAMES, broadcasts_far, keras_dtype, rules
from dlbridge.frameworks.keras.writes.elementwise import is_tensor, operand
from dlbridge.source.arrays import Activation
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call, code


def _by_name(name: str) -> Activation:
    """One that is a layer by its name alone."""
    function = f"ops.{name}" if hasattr(keras.ops, name) else f"keras.activations.{name}"
    return Activation(function, call("layers.Activation", name))


ACTIVATIONS = {
    "Relu": Activation("ops.relu", "layers.ReLU"),
    **{kind: _by_name(name) for kind, name in ACTIVATION_NAMES.items()},
    "HardSigmoid": _by_name("hard_sigmoid"),
    "Elu": Activation("ops.elu", "layers.ELU", {"alpha": "alpha"}),
    "Celu": Activation("ops.celu", keywords={"alpha": "alpha"}),
    "LogSoftmax": Activation("ops.log_softmax", keywords={"axis": "axis"}),
    "HardShrink": Activation("ops.hard_shrink"),
    "SoftShrink": Activation("ops.soft_shrink"),
}
#: The most axes that TensorFlow's softmax takes.
MOST_AXES = 5


@rules("Softmax")
def softmax(op: Op) -> Emit | Code:
    axis = op.attr("axis")
    if op.rank() > MOST_AXES:
        return code("ops.exp({})", call("ops.log_softmax", op.x, axis=axis))
    keywords = {} if axis == -1 else {"axis": axis}
    return Emit(call("ops.softmax", op.x, **keywords), module=Layer(call("layers.Softmax", **keywords)))


@rules("LeakyRelu")
def leaky_relu(op: Op) -> Emit:
    slope = op.attr("alpha")
    if op.dtype() == ir.DataType.DOUBLE:  # TensorFlow's backend takes the slope as float32
        return Emit(code("ops.where({x} < 0, {x} * {}, {x})", slope, x=op.x))
    # Keras' layer takes no negative slope, its function does.
    module = Layer(call("layers.LeakyReLU", negative_slope=slope)) if slope >= 0 else None
    return Emit(call("ops.leaky_relu", op.x, negative_slope=slope), module=module)


@rules("Gelu")
def gelu(op: Op) -> Emit | Code:
    tanh = op.attr("approximate") == "tanh"
    if op.dtype() == ir.DataType.DOUBLE:  # Keras' own has its numbers in float32
        if tanh:
            inner = code("math.sqrt(2 / math.pi) * ({x} + 0.044715 * {x} * {x} * {x})", x=op.x)
            return code("0.5 * {x} * (1 + ops.tanh({}))", inner, x=op.x)
        return code("0.5 * {x} * (1 + ops.erf({x} / math.sqrt(2)))", x=op.x)
    if tanh:
        return call("ops.gelu", op.x, approximate=True)
    return Emit(call("ops.gelu", op.x, approximate=False), module=Layer(code('layers.Activation("gelu")')))


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Code:
    return call("ops.threshold", op.x, op.attr("alpha"), 0.0)


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    axis, dtype = op.axis(), None if op.dtype() == ir.DataType.FLOAT else keras_dtype(op, op.dtype())
    first = call("ops.argmax", code("{} + 0.0", op.x), axis=axis)  # else -0.0 is less than 0.0
    return call("ops.one_hot", first, op.dim(0, axis), axis=None if axis == op.rank() - 1 else axis, dtype=dtype)


@rules("PRelu")
def prelu(op: Op) -> Emit | Code:
    """The layer keeps a slope of the input's rank without its batch; axes of one slope are shared."""
    slope, shape = op.shape(1), op.shape()
    if broadcasts_far(shape, slope):
        return code("ops.where({x} < 0, {x} * {}, {x})", call("broadcast_with", op[1], op.x), x=op.x)
    weight = None if slope is None or shape is None else op.weight(1, ("reshape", _padded(slope, len(shape) - 1)))
    if weight is None or len(slope) >= len(shape) or len(shape) < 2:  # type: ignore[arg-type]
        return code("ops.where({x} < 0, {x} * {}, {x})", op[1], x=op.x)
    whole = _padded(slope, len(shape) - 1)  # type: ignore[arg-type]
    shared = [i for i, n in enumerate(whole, 1) if n == 1]
    if any(n != d for n, d in zip(whole, shape[1:], strict=True) if n != 1):  # type: ignore[index]
        return code("ops.where({x} < 0, {x} * {}, {x})", op[1], x=op.x)
    new = call("layers.PReLU", shared_axes=shared or None)
    return Emit(call(LAYER, op.x), layer=Layer(new, {"alpha": weight}))


def _padded(slope: list[Any], rank: int) -> tuple[Any, ...]:
    return (*[1] * (rank - len(slope)), *slope)


@rules("Clip")
def clip(op: Op) -> Emit | Code:
    low, high = (operand(op, i) if op.has(i) else None for i in (1, 2))
    if low is None and high is None:
        return code("{}", op.x)
    if low is None:
        return call("ops.minimum", op.x, high)
    if high is None:
        return call("ops.maximum", op.x, low)
    known = [op.scalar(1), op.scalar(2)]
    if is_tensor(low) or is_tensor(high) or None in known or known[0] > known[1]:
        return call("ops.minimum", call("ops.maximum", op.x, low), high)
    clipped = call("ops.clip", op.x, low, high)
    if known[0] == 0 and op.dtype().is_floating_point() and op.dtype() != ir.DataType.DOUBLE:
        module = Layer(call("layers.ReLU", max_value=float(known[1])))
        return Emit(call("ops.relu6", op.x) if known[1] == 6 else clipped, module=module)
    return clipped
