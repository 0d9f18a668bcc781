"""Activations: ``F.relu(x)`` where it is called, ``nn.ReLU()`` in a list of layers."""

from __future__ import annotations

import math
from typing import Any

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.arrays import Activation
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code

ACTIVATIONS = {
    "Relu": Activation("F.relu", "nn.ReLU"),
    "Sigmoid": Activation("torch.sigmoid", "nn.Sigmoid"),
    "Tanh": Activation("torch.tanh", "nn.Tanh"),
    "Softsign": Activation("F.softsign", "nn.Softsign"),
    "Mish": Activation("F.mish", "nn.Mish"),
    "HardSwish": Activation("F.hardswish", "nn.Hardswish"),
    "HardSigmoid": Activation("F.hardsigmoid", "nn.Hardsigmoid"),
    "Selu": Activation("F.selu", "nn.SELU"),
    "Swish": Activation("F.silu", "nn.SiLU"),
    "HardShrink": Activation("F.hardshrink", "nn.Hardshrink"),
    "SoftShrink": Activation("F.softshrink", "nn.Softshrink"),
    "LeakyRelu": Activation("F.leaky_relu", "nn.LeakyReLU", {"alpha": "negative_slope"}, usual=0.01),
    "Elu": Activation("F.elu", "nn.ELU", {"alpha": "alpha"}, usual=1),
    "Celu": Activation("F.celu", "nn.CELU", {"alpha": "alpha"}, usual=1),
    "Softmax": Activation("F.softmax", "nn.Softmax", {"axis": "dim"}),
    "LogSoftmax": Activation("F.log_softmax", "nn.LogSoftmax", {"axis": "dim"}),
}


def activation(name: str, module: str, x: Any, *args: Any, **keywords: Any) -> Emit:
    """A function of one tensor that is a module class too, with the same arguments."""
    return Emit(call(name, x, *args, **keywords), module=Layer(call(module, *args, **keywords)))


@rules("Softplus")
def softplus(op: Op) -> Code:
    """log(1 + exp(x)) without PyTorch's cut at 20, which is exact in float32 but not in float64."""
    if op.dtype().name == "DOUBLE":
        return call("torch.logaddexp", op.x, code("torch.zeros_like({})", op.x))
    return activation("F.softplus", "nn.Softplus", op.x)  # type: ignore[return-value]


@rules("Gelu")
def gelu(op: Op) -> Emit:
    how = op.attr("approximate")
    return activation("F.gelu", "nn.GELU", op.x, **({} if how == "none" else {"approximate": how}))


@rules("PRelu")
def prelu(op: Op) -> Emit | Code:
    """The layer has one slope, or one for each channel (axis 1)."""
    count = _slopes(op)
    weight = None if count is None else op.weight(1, ("reshape", (count,)))
    if weight is None:
        return code("torch.where({x} < 0, {} * {x}, {x})", op[1], x=op.x)
    new = call("nn.PReLU", Literal(count, "num_parameters")) if count != 1 else call("nn.PReLU")
    return Emit(call(LAYER, op.x), Layer(new, {"weight": weight}))


def _slopes(op: Op) -> int | None:
    """How many slopes an ``nn.PReLU`` of these has; None where there is no such layer."""
    x, slope = op.shape(0), op.shape(1)
    numbers = [n for n in slope or () if isinstance(n, int)]
    if not x or slope is None or len(numbers) < len(slope) or not op.dtype().is_floating_point():
        return None
    count = math.prod(numbers)
    if count == 1 and len(slope) <= len(x):
        return 1
    by_axis = [*[1] * (len(x) - len(slope)), *slope]
    is_of_channels = len(x) > 1 and len(by_axis) == len(x) and by_axis[1] == x[1] == count
    return count if is_of_channels else None


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Code:
    """``F.threshold`` would pass NaN on."""
    return code("torch.where({x} > {}, {x}, 0)", op.attr("alpha"), x=op.x)


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    return call("hardmax", op.x, dim=op.attr("axis"))
