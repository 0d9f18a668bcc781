"""Activations: a layer where layers are joined, a function of ``ops`` inside a layer."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import broadcasts_far, keras_dtype, rules
from dlbridge.frameworks.keras.writes.elementwise import is_tensor, operand
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op

#: Op -> (function of ``ops``, name for ``layers.Activation``).
_PLAIN = {
    "Sigmoid": ("ops.sigmoid", "sigmoid"),
    "Tanh": ("ops.tanh", "tanh"),
    "Softplus": ("ops.softplus", "softplus"),
    "Softsign": ("ops.softsign", "softsign"),
    "Mish": ("keras.activations.mish", "mish"),
    "HardSwish": ("ops.hard_swish", "hard_swish"),
}

#: The most axes that TensorFlow's softmax takes.
MOST_AXES = 5
#: Numbers of the standard's Selu, which are also Keras'.
_SELU = (1.6732631921768188, 1.0507010221481323)


@rules(*_PLAIN)
def plain(op: Op) -> Emit:
    function, name = _PLAIN[op.key]
    return Emit(call(function, op.x), module=Layer(code(f'layers.Activation("{name}")')))


@rules("Relu")
def relu(op: Op) -> Emit:
    return Emit(call("ops.relu", op.x), module=Layer(call("layers.ReLU")))


@rules("Softmax")
def softmax(op: Op) -> Emit | Code:
    axis = op.attr("axis")
    if op.rank() > MOST_AXES:
        return code("ops.exp({})", call("ops.log_softmax", op.x, axis=axis))
    keywords = {} if axis == -1 else {"axis": axis}
    return Emit(call("ops.softmax", op.x, **keywords), module=Layer(call("layers.Softmax", **keywords)))


@rules("LogSoftmax")
def log_softmax(op: Op) -> Code:
    return call("ops.log_softmax", op.x, axis=op.attr("axis"))


@rules("LeakyRelu")
def leaky_relu(op: Op) -> Emit:
    slope = op.attr("alpha")
    if op.dtype() == ir.DataType.DOUBLE:  # TensorFlow's backend takes the slope as float32
        return Emit(code("ops.where({x} < 0, {x} * {}, {x})", slope, x=op.x))
    module = Layer(call("layers.LeakyReLU", negative_slope=slope))
    return Emit(call("ops.leaky_relu", op.x, negative_slope=slope), module=module)


@rules("Elu")
def elu(op: Op) -> Emit:
    alpha = op.attr("alpha")
    return Emit(call("ops.elu", op.x, alpha=alpha), module=Layer(call("layers.ELU", alpha=alpha)))


@rules("Celu")
def celu(op: Op) -> Code:
    return call("ops.celu", op.x, alpha=op.attr("alpha"))


@rules("Selu")
def selu(op: Op) -> Emit | Code:
    alpha, gamma = op.attr("alpha"), op.attr("gamma")
    if abs(alpha - _SELU[0]) < 1e-6 and abs(gamma - _SELU[1]) < 1e-6:
        return Emit(call("ops.selu", op.x), module=Layer(code('layers.Activation("selu")')))
    return code("{} * {}", gamma, call("ops.elu", op.x, alpha=alpha))


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


@rules("Swish")
def swish(op: Op) -> Emit | Code:
    alpha = op.attr("alpha")
    if alpha == 1.0:
        return Emit(call("ops.silu", op.x), module=Layer(code('layers.Activation("silu")')))
    return code("{x} * ops.sigmoid({} * {x})", alpha, x=op.x)


@rules("HardSigmoid")
def hard_sigmoid(op: Op) -> Emit | Code:
    alpha, beta = op.attr("alpha"), op.attr("beta")
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return Emit(call("ops.hard_sigmoid", op.x), module=Layer(code('layers.Activation("hard_sigmoid")')))
    return code("ops.clip({} * {} + {}, 0.0, 1.0)", alpha, op.x, beta)


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Code:
    return call("ops.threshold", op.x, op.attr("alpha"), 0.0)


@rules("Shrink")
def shrink(op: Op) -> Code:
    bias, limit = op.attr("bias"), op.attr("lambd")
    if op.dtype().is_floating_point() and bias == 0:
        return call("ops.hard_shrink", op.x, limit)
    if op.dtype().is_floating_point() and bias == limit:
        return call("ops.soft_shrink", op.x, limit)
    return call("shrink", op.x, bias, limit)


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    axis, dtype = op.axis(), None if op.dtype() == ir.DataType.FLOAT else keras_dtype(op, op.dtype())
    first = call("ops.argmax", code("{} + 0.0", op.x), axis=axis)  # else -0.0 is less than 0.0
    return call("ops.one_hot", first, op.dim(0, axis), axis=None if axis == op.rank() - 1 else axis, dtype=dtype)


@rules("SwiGLU")
def swiglu(op: Op) -> Code:
    alpha = op.attr("alpha")
    gate = call("ops.silu", op.x) if alpha == 1 else code("{x} * ops.sigmoid({x} * {})", alpha, x=op.x)
    return code("{} * {}", gate, op[1])


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
