"""Activations: functions of one array, which some frameworks have as layers too."""

from __future__ import annotations

from typing import Any

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call, code

activation = Family()
#: Numbers of Selu, as the standard has them.
_SELU = (1.6732632423543772, 1.0507009873554805)


def said(op: Op, arrays: ArrayDialect, name: str, *arguments: Any) -> Emit | Code:
    """An activation in the framework's words: its function, and the layer for where layers are listed."""
    how = arrays.activations[name]
    given = {word: op.attr(attribute) for attribute, word in how.keywords.items()}
    keywords = {word: number for word, number in given.items() if number != how.usual}
    made = call(how.function, op.x, *arguments, **keywords)
    if how.layer is None:
        return made
    new = how.layer if isinstance(how.layer, Code) else call(how.layer, *arguments, **keywords)
    return Emit(made, module=Layer(new))


@activation("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Mish", "HardSwish")
@activation("LeakyRelu", "Elu", "Celu", "Softmax", "LogSoftmax")
def plain(op: Op, arrays: ArrayDialect) -> Emit | Code:
    return said(op, arrays, op.key)


@activation("Selu")
def selu(op: Op, arrays: ArrayDialect) -> Emit | Code:
    alpha, gamma = op.attr("alpha"), op.attr("gamma")
    if abs(alpha - _SELU[0]) < 1e-6 and abs(gamma - _SELU[1]) < 1e-6:
        return said(op, arrays, "Selu")
    return code("{gamma} * {}", call(arrays.activations["Elu"].function, op.x, alpha=alpha), gamma=gamma)


@activation("Swish")
def swish(op: Op, arrays: ArrayDialect) -> Emit | Code:
    return said(op, arrays, "Swish") if op.attr("alpha") == 1 else _gated(op, arrays)


@activation("SwiGLU")
def swiglu(op: Op, arrays: ArrayDialect) -> Code:
    gate = call(arrays.activations["Swish"].function, op.x) if op.attr("alpha") == 1 else _gated(op, arrays)
    return code("{} * {}", gate, op[1])


def _gated(op: Op, arrays: ArrayDialect) -> Code:
    sigmoid = call(arrays.activations["Sigmoid"].function, code("{} * {}", op.attr("alpha"), op.x))
    return code("{} * {}", op.x, sigmoid)


@activation("HardSigmoid")
def hard_sigmoid(op: Op, arrays: ArrayDialect) -> Emit | Code:
    alpha, beta = op.attr("alpha"), op.attr("beta")
    if beta == 0.5 and abs(alpha - 1 / 6) < 1e-7:
        return said(op, arrays, "HardSigmoid")
    return arrays.call("clip", code("{} * {} + {}", alpha, op.x, beta), 0, 1)


@activation("Shrink")
def shrink(op: Op, arrays: ArrayDialect) -> Emit | Code:
    bias, limit = op.attr("bias"), op.attr("lambd")
    name = {limit: "SoftShrink", 0: "HardShrink"}.get(bias, "")
    if name in arrays.activations and op.dtype().is_floating_point():
        return said(op, arrays, name, limit)
    return call("shrink", op.x, bias, limit)


@activation("PRelu")
def prelu(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("where", code("{} < 0", op.x), code("{} * {}", op[1], op.x), op.x)
