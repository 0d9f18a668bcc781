"""Activations: a layer where layers are joined, a function of ``ops`` inside a layer."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Layer, Op

#: Op -> (function of ``ops``, name for ``layers.Activation``).
_PLAIN = {
    "Sigmoid": ("ops.sigmoid", "sigmoid"),
    "Tanh": ("ops.tanh", "tanh"),
    "Softplus": ("ops.softplus", "softplus"),
    "Softsign": ("ops.softsign", "softsign"),
    "Mish": ("ops.mish", "mish"),
    "HardSwish": ("ops.hard_swish", "hard_swish"),
}

#: Numbers of the standard's Selu, which are also Keras'.
_SELU = (1.6732631921768188, 1.0507010221481323)


@rules(*_PLAIN)
def plain(op: Op) -> Emit:
    function, name = _PLAIN[op.node.op_type]
    return Emit(call(function, op.x), module=Layer(code(f'layers.Activation("{name}")')))


@rules("Relu")
def relu(op: Op) -> Emit:
    return Emit(call("ops.relu", op.x), module=Layer(call("layers.ReLU")))


@rules("Softmax")
def softmax(op: Op) -> Emit:
    axis = op.attr("axis")
    keywords = {} if axis == -1 else {"axis": axis}
    return Emit(call("ops.softmax", op.x, **keywords), module=Layer(call("layers.Softmax", **keywords)))


@rules("LogSoftmax")
def log_softmax(op: Op) -> Code:
    return call("ops.log_softmax", op.x, axis=op.attr("axis"))


@rules("LeakyRelu")
def leaky_relu(op: Op) -> Emit:
    slope = op.attr("alpha")
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
def gelu(op: Op) -> Emit:
    approximate = op.attr("approximate") == "tanh"
    module = Layer(code('layers.Activation("gelu")')) if not approximate else None
    return Emit(call("ops.gelu", op.x, approximate=approximate), module=module)


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
    return code("ops.where({x} > {}, {x}, 0)", op.attr("alpha"), x=op.x)


@rules("Shrink")
def shrink(op: Op) -> Code:
    bias, lambd = op.attr("bias"), op.attr("lambd")
    inner = code("ops.where({x} < {}, {x} + {}, 0)", -lambd, bias, x=op.x)
    return code("ops.where({x} > {}, {x} - {}, {})", lambd, bias, inner, x=op.x)


@rules("PRelu")
def prelu(op: Op) -> Code:
    return code("ops.where({x} < 0, {} * {x}, {x})", op[1], x=op.x)


def clip_bounds(op: Op) -> list[Any]:
    """The bounds of Clip: numbers, tensors, or None."""
    return [op.operand(i) if op.has(i) else None for i in (1, 2)]


@rules("Clip")
def clip(op: Op) -> Emit | Code:
    low, high = clip_bounds(op)
    if low is None and high is None:
        return code("{}", op.x)
    if low is None:
        return call("ops.minimum", op.x, high)
    if high is None:
        return call("ops.maximum", op.x, low)
    if op.scalar(1) == 0 and op.scalar(2) is not None and op.dtype().is_floating_point() and op.scalar(2) > 0:
        bound = op.scalar(2)
        module = Layer(call("layers.ReLU", max_value=float(bound)))
        return Emit(call("ops.relu6", op.x) if bound == 6 else call("ops.clip", op.x, low, high), module=module)
    return call("ops.minimum", call("ops.maximum", op.x, low), high)
