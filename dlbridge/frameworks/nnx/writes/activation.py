"""Activations: functions of ``nnx``."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import rules
from dlbridge.source.arrays import Activation
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code

_ALPHA = {"alpha": "alpha"}
ACTIVATIONS = {
    "Relu": Activation("nnx.relu"),
    "Sigmoid": Activation("nnx.sigmoid"),
    "Tanh": Activation("nnx.tanh"),
    "Softplus": Activation("nnx.softplus"),
    "Softsign": Activation("nnx.soft_sign"),
    "HardSwish": Activation("nnx.hard_swish"),
    "HardSigmoid": Activation("nnx.hard_sigmoid"),
    "Mish": Activation("jax.nn.mish"),
    "Selu": Activation("nnx.selu"),
    "Swish": Activation("nnx.silu"),
    "LeakyRelu": Activation("nnx.leaky_relu", keywords={"alpha": "negative_slope"}, usual=0.01),
    "Elu": Activation("nnx.elu", keywords=_ALPHA, usual=1),
    "Celu": Activation("nnx.celu", keywords=_ALPHA, usual=1),
    "Softmax": Activation("nnx.softmax", keywords={"axis": "axis"}, usual=-1),
    "LogSoftmax": Activation("nnx.log_softmax", keywords={"axis": "axis"}, usual=-1),
}


@rules("Gelu")
def gelu(op: Op) -> Code:
    return call("nnx.gelu", op.x, approximate=op.attr("approximate") == "tanh")


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Code:
    return code("jnp.where({x} > {}, {x}, 0)", op.attr("alpha"), x=op.x)


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    axis = op.axis()
    return call(
        "nnx.one_hot", call("jnp.argmax", op.x, axis=axis), op.dim(0, axis), axis=axis, dtype=code("{}.dtype", op.x)
    )
