"""Activations that exporters write out: Gelu, Swish, HardSwish, HardSigmoid, Mish, Softplus, LeakyRelu, Softsign."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.lift.pattern import Lifter, attribute, input_at, made_by, operands, rule, scalar, with_scalar


def monomial(value: ir.Value, stops: set[ir.Value]) -> tuple[float, Counter[ir.Value]]:
    """A value as coefficient * product of values to powers, multiplications opened down to ``stops``."""
    node = None if value in stops else made_by(value, "Mul", "Div", "Neg", "Pow")
    if node is None:
        number = scalar(value)
        return (number, Counter()) if number is not None else (1.0, Counter({value: 1}))
    if is_op(node, "Neg"):
        coefficient, powers = monomial(node.inputs[0], stops)
        return -coefficient, powers
    if is_op(node, "Pow"):
        exponent = scalar(node.inputs[1])
        if exponent not in (2.0, 3.0):
            return 1.0, Counter({value: 1})
        coefficient, powers = monomial(node.inputs[0], stops)
        return coefficient**exponent, Counter({v: int(p * exponent) for v, p in powers.items()})
    (a, left), (b, right) = (monomial(v, stops) for v in node.inputs)
    if is_op(node, "Mul"):
        return a * b, left + right
    if right or b == 0:  # a quotient of values: as it is
        return 1.0, Counter({value: 1})
    return a / b, left


def is_monomial(value: ir.Value, coefficient: float, powers: dict[ir.Value, int]) -> bool:
    """Whether a value is coefficient * product of those values to those powers."""
    found, factors = monomial(value, set(powers))
    return math.isclose(found, coefficient, rel_tol=1e-4) and factors == Counter(powers)


def _factor(value: ir.Value, *op_types: str, depth: int = 3) -> ir.Node | None:
    """A factor of a product that one of these ops makes."""
    node = made_by(value, *op_types)
    if node is not None or depth == 0:
        return node
    product = made_by(value, "Mul", "Div")
    if product is None:
        return None
    found = (_factor(v, *op_types, depth=depth - 1) for v in product.inputs[: 2 if is_op(product, "Mul") else 1])
    return next((node for node in found if node is not None), None)


@rule("Mul", "Div")
def gelu(node: ir.Node, to: Lifter) -> bool:
    """0.5 x (1 + erf(x / sqrt 2)), and with tanh(sqrt(2 / pi) (x + 0.044715 x^3)); factors in any order.

    Also as 0.5 x (1 - erf(-x / sqrt 2)), which is Keras' 0.5 x erfc(-x / sqrt 2).
    """
    for value in node.inputs:
        bell = _factor(value, "Add", "Sub")
        if bell is None:
            continue
        minus = is_op(bell, "Sub")
        one = with_scalar(bell, 1.0) if not minus else (bell.inputs[1], scalar(bell.inputs[0]))
        curve = made_by(one[0], *(("Erf",) if minus else ("Erf", "Tanh"))) if one is not None else None
        if curve is None or (minus and one[1] != 1):
            continue
        turned = curve.inputs[0]
        x = _erf_argument(turned, -1 if minus else 1) if is_op(curve, "Erf") else _tanh_argument(turned)
        if x is not None and is_monomial(node.outputs[0], 0.5, {x: 1, bell.outputs[0]: 1}):
            approximate = "none" if is_op(curve, "Erf") else "tanh"
            return to.replace(node, "Gelu", [x], {"approximate": approximate})
    return False


def _erf_argument(value: ir.Value, sign: int) -> ir.Value | None:
    """x of sign x / sqrt 2."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return None
    candidates = [v for v in node.inputs if scalar(v) is None]
    candidates += [negated.inputs[0] for v in candidates if (negated := made_by(v, "Neg")) is not None]
    return next((v for v in candidates if is_monomial(value, sign * math.sqrt(0.5), {v: 1})), None)


def _tanh_argument(value: ir.Value) -> ir.Value | None:
    """x of sqrt(2 / pi) (x + 0.044715 x^3), also as sqrt(2 / pi) x (1 + 0.044715 x^2)."""
    add = _factor(value, "Add")
    if add is None:
        return None
    for x, rest in (add.inputs, reversed(add.inputs)):
        if scalar(x) is None and is_monomial(rest, 0.044715, {x: 3}):
            return x if is_monomial(value, math.sqrt(2 / math.pi), {add.outputs[0]: 1}) else None
    one = with_scalar(add, 1.0)
    if one is None:
        return None
    for x in monomial(one[0], set())[1]:
        whole = {add.outputs[0]: 1, x: 1}
        if is_monomial(one[0], 0.044715, {x: 2}) and is_monomial(value, math.sqrt(2 / math.pi), whole):
            return x
    return None


@rule("Mul")
def swish(node: ir.Node, to: Lifter) -> bool:
    """x sigmoid(alpha x)."""
    found = operands(node, "Sigmoid")
    if found is None:
        return False
    gate, x = found
    if gate.inputs[0] is x:
        return to.replace(node, "Swish", [x])
    coefficient, powers = monomial(gate.inputs[0], {x})
    return powers == Counter({x: 1}) and to.replace(node, "Swish", [x], {"alpha": coefficient})


@rule("Mul")
def mish(node: ir.Node, to: Lifter) -> bool:
    """x tanh(softplus(x))."""
    found = operands(node, "Tanh")
    soft = made_by(found[0].inputs[0], "Softplus") if found is not None else None
    return soft is not None and soft.inputs[0] is found[1] and to.replace(node, "Mish", [found[1]])


@rule("Log")
def softplus(node: ir.Node, to: Lifter) -> bool:
    """log(1 + exp(x)); Softplus does not overflow where this does."""
    add = made_by(node.inputs[0], "Add")
    one = with_scalar(add, 1.0) if add is not None else None
    exp = made_by(one[0], "Exp") if one is not None else None
    return exp is not None and to.replace(node, "Softplus", [exp.inputs[0]])


def _clipped(value: ir.Value) -> ir.Value | None:
    """x of clip(x + 3, 0, 6)."""
    clip = made_by(value, "Clip")
    if clip is None or scalar(input_at(clip, 1)) != 0 or scalar(input_at(clip, 2)) != 6:
        return None
    add = made_by(clip.inputs[0], "Add")
    three = with_scalar(add, 3.0) if add is not None else None
    return three[0] if three is not None else None


@rule("Mul", "Div")
def hard_swish(node: ir.Node, to: Lifter) -> bool:
    """x clip(x + 3, 0, 6) / 6 in any order, x hard_sigmoid(x), and clip(x + 3, 0, 6) / 6 alone."""
    for value in node.inputs:
        clip = _factor(value, "Clip")
        x = _clipped(clip.outputs[0]) if clip is not None else None
        if x is None:
            continue
        if is_monomial(node.outputs[0], 1 / 6, {x: 1, clip.outputs[0]: 1}):
            return to.replace(node, "HardSwish", [x])
        if is_monomial(node.outputs[0], 1 / 6, {clip.outputs[0]: 1}):
            return to.replace(node, "HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})
    found = operands(node, "HardSigmoid") if is_op(node, "Mul") else None
    if found is None or found[0].inputs[0] is not found[1]:
        return False
    slope = (attribute(found[0], "alpha", 0.2), attribute(found[0], "beta", 0.5))
    return bool(np.allclose(slope, (1 / 6, 0.5), rtol=1e-4)) and to.replace(node, "HardSwish", [found[1]])


@rule("Max")
def leaky_relu(node: ir.Node, to: Lifter) -> bool:
    """max(x, alpha x) for 0 < alpha < 1."""
    if len(node.inputs) != 2:
        return False
    for x, other in (node.inputs, reversed(node.inputs)):
        coefficient, powers = monomial(other, {x})
        if powers == Counter({x: 1}) and 0 < coefficient < 1:
            return to.replace(node, "LeakyRelu", [x], {"alpha": coefficient})
    return False


@rule("Div")
def softsign(node: ir.Node, to: Lifter) -> bool:
    """x / (1 + |x|)."""
    add = made_by(node.inputs[1], "Add")
    one = with_scalar(add, 1.0) if add is not None else None
    size = made_by(one[0], "Abs") if one is not None else None
    return size is not None and size.inputs[0] is node.inputs[0] and to.replace(node, "Softsign", [node.inputs[0]])
