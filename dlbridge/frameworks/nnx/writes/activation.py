"""Activations: functions of ``nnx``."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op

_PLAIN = {
    "Relu": "nnx.relu",
    "Sigmoid": "nnx.sigmoid",
    "Tanh": "nnx.tanh",
    "Softplus": "nnx.softplus",
    "Softsign": "nnx.soft_sign",
    "HardSwish": "nnx.hard_swish",
    "Mish": "jax.nn.mish",
}
#: Numbers of Selu, as the standard has them.
_SELU = (1.6732632423543772, 1.0507009873554805)


@rules(*_PLAIN)
def plain(op: Op) -> Code:
    return call(_PLAIN[op.key], op.x)


@rules("Softmax", "LogSoftmax")
def softmax(op: Op) -> Code:
    axis = op.attr("axis")
    return call("nnx.softmax" if op.key == "Softmax" else "nnx.log_softmax", op.x, axis=None if axis == -1 else axis)


@rules("LeakyRelu")
def leaky_relu(op: Op) -> Code:
    slope = op.attr("alpha")
    return call("nnx.leaky_relu", op.x, negative_slope=None if slope == 0.01 else slope)


@rules("Elu", "Celu")
def elu(op: Op) -> Code:
    alpha = op.attr("alpha")
    return call("nnx.elu" if op.key == "Elu" else "nnx.celu", op.x, alpha=None if alpha == 1 else alpha)


@rules("Selu")
def selu(op: Op) -> Code:
    alpha, gamma = op.attr("alpha"), op.attr("gamma")
    if abs(alpha - _SELU[0]) < 1e-6 and abs(gamma - _SELU[1]) < 1e-6:
        return call("nnx.selu", op.x)
    return code("{gamma} * {}", call("nnx.elu", op.x, alpha=alpha), gamma=gamma)


@rules("Gelu")
def gelu(op: Op) -> Code:
    return call("nnx.gelu", op.x, approximate=op.attr("approximate") == "tanh")


@rules("Swish")
def swish(op: Op) -> Code:
    alpha = op.attr("alpha")
    return call("nnx.silu", op.x) if alpha == 1 else code("{x} * nnx.sigmoid({} * {x})", alpha, x=op.x)


@rules("SwiGLU")
def swiglu(op: Op) -> Code:
    return code("{} * {}", swish(op), op[1])


@rules("HardSigmoid")
def hard_sigmoid(op: Op) -> Code:
    alpha, beta = op.attr("alpha"), op.attr("beta")
    if beta == 0.5 and abs(alpha - 1 / 6) < 1e-7:
        return call("nnx.hard_sigmoid", op.x)
    return code("jnp.clip({alpha} * {} + {beta}, 0, 1)", op.x, alpha=alpha, beta=beta)


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Code:
    return code("jnp.where({x} > {}, {x}, 0)", op.attr("alpha"), x=op.x)


@rules("Shrink")
def shrink(op: Op) -> Code:
    return call("shrink", op.x, op.attr("bias"), op.attr("lambd"))


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    axis = op.axis()
    return call(
        "nnx.one_hot", call("jnp.argmax", op.x, axis=axis), op.dim(0, axis), axis=axis, dtype=code("{}.dtype", op.x)
    )


@rules("PRelu")
def prelu(op: Op) -> Code:
    return code("jnp.where({x} < 0, {} * {x}, {x})", op[1], x=op.x)
