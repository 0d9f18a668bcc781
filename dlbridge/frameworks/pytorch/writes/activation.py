"""Activations: ``F.relu(x)`` where it is called, ``nn.ReLU()`` in a list of layers."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Layer, Op

#: Op -> function, class; both without arguments.
_PLAIN = {
    "Relu": ("F.relu", "nn.ReLU"),
    "Sigmoid": ("F.sigmoid", "nn.Sigmoid"),
    "Tanh": ("F.tanh", "nn.Tanh"),
    "Softsign": ("F.softsign", "nn.Softsign"),
    "Mish": ("F.mish", "nn.Mish"),
    "HardSwish": ("F.hardswish", "nn.Hardswish"),
}
_FUNCTION_NAMES = {"F.sigmoid": "torch.sigmoid", "F.tanh": "torch.tanh"}


def activation(name: str, module: str, x: Any, *args: Any, **keywords: Any) -> Emit:
    """A function of one tensor that is a module class too, with the same arguments."""
    return Emit(call(name, x, *args, **keywords), module=Layer(call(module, *args, **keywords)))


@rules(*_PLAIN)
def plain(op: Op) -> Emit:
    name, module = _PLAIN[op.key]
    return activation(_FUNCTION_NAMES.get(name, name), module, op.x)


@rules("Softmax", "LogSoftmax")
def softmax(op: Op) -> Emit:
    if op.key == "Softmax":
        return activation("F.softmax", "nn.Softmax", op.x, dim=op.attr("axis"))
    return activation("F.log_softmax", "nn.LogSoftmax", op.x, dim=op.attr("axis"))


@rules("Softplus")
def softplus(op: Op) -> Code:
    """log(1 + exp(x)) without PyTorch's cut at 20, which is exact in float32 but not in float64."""
    if op.dtype().name == "DOUBLE":
        return call("torch.logaddexp", op.x, code("torch.zeros_like({})", op.x))
    return activation("F.softplus", "nn.Softplus", op.x)  # type: ignore[return-value]


@rules("LeakyRelu")
def leaky_relu(op: Op) -> Emit:
    slope = op.attr("alpha")
    return activation("F.leaky_relu", "nn.LeakyReLU", op.x, **({} if slope == 0.01 else {"negative_slope": slope}))


@rules("Elu", "Celu")
def elu(op: Op) -> Emit:
    name, module = ("F.elu", "nn.ELU") if op.key == "Elu" else ("F.celu", "nn.CELU")
    alpha = op.attr("alpha")
    return activation(name, module, op.x, **({} if alpha == 1 else {"alpha": alpha}))


@rules("Selu")
def selu(op: Op) -> Emit | Code:
    alpha, gamma = op.attr("alpha"), op.attr("gamma")
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return activation("F.selu", "nn.SELU", op.x)
    return code("{gamma} * F.elu({x}, alpha={alpha})", gamma=gamma, x=op.x, alpha=alpha)


@rules("Gelu")
def gelu(op: Op) -> Emit:
    how = op.attr("approximate")
    return activation("F.gelu", "nn.GELU", op.x, **({} if how == "none" else {"approximate": how}))


@rules("Swish")
def swish(op: Op) -> Emit | Code:
    alpha = op.attr("alpha")
    if alpha == 1:
        return activation("F.silu", "nn.SiLU", op.x)
    return code("{x} * torch.sigmoid({alpha} * {x})", x=op.x, alpha=alpha)


@rules("SwiGLU")
def swiglu(op: Op) -> Code:
    alpha = op.attr("alpha")
    gate = call("F.silu", op.x) if alpha == 1 else code("{x} * torch.sigmoid({} * {x})", alpha, x=op.x)
    return code("{} * {}", gate, op[1])


@rules("HardSigmoid")
def hard_sigmoid(op: Op) -> Emit | Code:
    alpha, beta = op.attr("alpha"), op.attr("beta")
    if beta == 0.5 and abs(alpha - 1 / 6) < 1e-7:
        return activation("F.hardsigmoid", "nn.Hardsigmoid", op.x)
    return code("torch.clamp({alpha} * {x} + {beta}, 0, 1)", alpha=alpha, x=op.x, beta=beta)


@rules("ThresholdedRelu")
def thresholded_relu(op: Op) -> Emit:
    return activation("F.threshold", "nn.Threshold", op.x, op.attr("alpha"), 0)


@rules("Shrink")
def shrink(op: Op) -> Emit | Code:
    bias, limit = op.attr("bias"), op.attr("lambd")
    if not op.dtype().is_integer() and bias == 0:
        return activation("F.hardshrink", "nn.Hardshrink", op.x, limit)
    if not op.dtype().is_integer() and bias == limit:
        return activation("F.softshrink", "nn.Softshrink", op.x, limit)
    return call("shrink", op.x, bias, limit)


@rules("Hardmax")
def hardmax(op: Op) -> Code:
    return call("hardmax", op.x, dim=op.attr("axis"))


@rules("PRelu")
def prelu(op: Op) -> Code:
    return code("torch.where({x} < 0, {slope} * {x}, {x})", x=op.x, slope=op[1])
