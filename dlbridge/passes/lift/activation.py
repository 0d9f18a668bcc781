"""Activations that exporters write out: Gelu, Swish, HardSwish, HardSigmoid, Mish, Softplus, Softsign, Sigmoid."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.passes.lift.pattern import Lifter, operands, rule, scalar, with_scalar
from dlbridge.passes.matching import Match, producer

#: A value as coefficient * product of values to powers.
Monomial = tuple[float, Counter[ir.Value]]


def monomial(value: ir.Value, stops: set[ir.Value]) -> Monomial:
    """A value as coefficient * product of values to powers, multiplications opened down to ``stops``."""
    node = None
    if value not in stops:
        node = producer(value, "Mul", "Div", "Neg", "Pow")
    if node is None:
        number = scalar(value)
        return (1.0, Counter({value: 1})) if number is None else (number, Counter())
    match node.key:
        case "Neg":
            coefficient, powers = monomial(node.operand(0), stops)
            return -coefficient, powers
        case "Pow":
            return _power(node, stops)
        case "Mul":
            (a, left), (b, right) = (monomial(v, stops) for v in node.operands)
            return a * b, left + right
    (a, left), (b, right) = (monomial(v, stops) for v in node.operands)
    if right or b == 0:  # a quotient of values: as it is
        return 1.0, Counter({value: 1})
    return a / b, left


def _power(node: Match, stops: set[ir.Value]) -> Monomial:
    """A square or a cube; any other power stays as it is."""
    exponent = scalar(node.operand(1))
    if exponent not in (2.0, 3.0):
        return 1.0, Counter({node.output: 1})
    assert exponent is not None
    coefficient, powers = monomial(node.operand(0), stops)
    return coefficient**exponent, Counter({v: int(p * exponent) for v, p in powers.items()})


def is_monomial(value: ir.Value, coefficient: float, powers: Mapping[ir.Value, int]) -> bool:
    """Whether a value is coefficient * product of those values to those powers."""
    found, factors = monomial(value, set(powers))
    return math.isclose(found, coefficient, rel_tol=1e-4) and factors == Counter(powers)


def _factor(value: ir.Value, *op_types: str, depth: int = 3) -> Match | None:
    """A factor of a product that one of these ops makes."""
    node = producer(value, *op_types)
    if node is not None or depth == 0:
        return node
    product = producer(value, "Mul", "Div")
    if product is None:
        return None
    factors = product.operands if product.is_op("Mul") else product.operands[:1]
    for factor in factors:
        found = _factor(factor, *op_types, depth=depth - 1)
        if found is not None:
            return found
    return None


@rule("Mul", "Div")
def gelu(node: Match, to: Lifter) -> bool:
    """0.5 x (1 + erf(x / sqrt 2)), and with tanh(sqrt(2 / pi) (x + 0.044715 x^3)); factors in any order.

    Also as 0.5 x (1 - erf(-x / sqrt 2)), which is Keras' 0.5 x erfc(-x / sqrt 2).
    """
    for value in node.operands:
        bell = _factor(value, "Add", "Sub")
        if bell is None:
            continue
        curve = _curve(bell)
        if curve is None:
            continue
        x = _argument(curve, minus=bell.is_op("Sub"))
        if x is not None and is_monomial(node.output, 0.5, {x: 1, bell.output: 1}):
            approximate = "none" if curve.is_op("Erf") else "tanh"
            return to.become(node, "Gelu", [x], {"approximate": approximate})
    return to.no(node, "no factor is 1 + erf(x / sqrt 2) or 1 + tanh(...), with 0.5 x as the rest of the product")


def _curve(bell: Match) -> Match | None:
    """The erf or tanh of 1 + erf, 1 + tanh and 1 - erf."""
    if bell.is_op("Sub"):
        return producer(bell.operand(1), "Erf") if scalar(bell.operand(0)) == 1 else None
    one = with_scalar(bell, 1.0)
    return None if one is None else producer(one[0], "Erf", "Tanh")


def _argument(curve: Match, *, minus: bool) -> ir.Value | None:
    """The x of which Gelu's curve is."""
    if curve.is_op("Tanh"):
        return _tanh_argument(curve.operand(0))
    return _erf_argument(curve.operand(0), -1 if minus else 1)


def _erf_argument(value: ir.Value, sign: int) -> ir.Value | None:
    """x of sign x / sqrt 2."""
    node = producer(value, "Mul", "Div")
    if node is None:
        return None
    candidates = [v for v in node.operands if scalar(v) is None]
    negated = [producer(v, "Neg") for v in candidates]
    candidates += [n.operand(0) for n in negated if n is not None]
    return next((v for v in candidates if is_monomial(value, sign * math.sqrt(0.5), {v: 1})), None)


def _tanh_argument(value: ir.Value) -> ir.Value | None:
    """x of sqrt(2 / pi) (x + 0.044715 x^3), also as sqrt(2 / pi) x (1 + 0.044715 x^2)."""
    add = _factor(value, "Add")
    if add is None:
        return None
    for x, rest in add.orders():
        if scalar(x) is None and is_monomial(rest, 0.044715, {x: 3}):
            return x if is_monomial(value, math.sqrt(2 / math.pi), {add.output: 1}) else None
    one = with_scalar(add, 1.0)
    if one is None:
        return None
    for x in monomial(one[0], set())[1]:
        whole = {add.output: 1, x: 1}
        if is_monomial(one[0], 0.044715, {x: 2}) and is_monomial(value, math.sqrt(2 / math.pi), whole):
            return x
    return None


#: A rule for a product of an activation and another operand: (the product, the activation, the operand, lifter).
GateRule = Callable[[Match, Match, ir.Value, Lifter], bool]


def _gate(activation: str, words: str) -> Callable[[GateRule], GateRule]:
    """Decorator: a rule for products in which one operand is an activation, which ``words`` name."""

    def register(gated: GateRule) -> GateRule:
        @rule("Mul")
        @functools.wraps(gated)
        def product(node: Match, to: Lifter) -> bool:
            found = operands(node, activation)
            return to.no(node, f"no operand is a {words}") if found is None else gated(node, *found, to)

        return gated

    return register


@_gate("Sigmoid", "sigmoid")
def swish(node: Match, gate: Match, x: ir.Value, to: Lifter) -> bool:
    """x sigmoid(alpha x)."""
    if gate.operand(0) is x:
        return to.become(node, "Swish", [x])
    coefficient, powers = monomial(gate.operand(0), {x})
    if powers != Counter({x: 1}):
        return to.no(node, "the sigmoid is not of a multiple of the other operand")
    return to.become(node, "Swish", [x], {"alpha": coefficient})


@_gate("Tanh", "tanh")
def mish(node: Match, gate: Match, x: ir.Value, to: Lifter) -> bool:
    """x tanh(softplus(x))."""
    soft = producer(gate.operand(0), "Softplus")
    if soft is None or soft.operand(0) is not x:
        return to.no(node, "the tanh is not of the softplus of the other operand")
    return to.become(node, "Mish", [x])


def _exponent(value: ir.Value) -> ir.Value | None:
    """z of 1 + exp(z)."""
    one = with_scalar(producer(value, "Add"), 1.0)
    exp = None if one is None else producer(one[0], "Exp")
    return None if exp is None else exp.operand(0)


@rule("Log")
def softplus(node: Match, to: Lifter) -> bool:
    """log(1 + exp(x)); Softplus does not overflow where this does."""
    x = _exponent(node.operand(0))
    return to.no(node, "it is not of 1 + exp(x)") if x is None else to.become(node, "Softplus", [x])


@rule("Div", "Reciprocal")
def sigmoid(node: Match, to: Lifter) -> bool:
    """1 / (1 + exp(-x)).

    ``exp(x) / (1 + exp(x))`` is none: it is NaN for large x.
    """
    if node.is_op("Div") and scalar(node.operand(0)) != 1:
        return to.no(node, "it is not 1 that is divided")
    exponent = _exponent(node.operands[-1])
    x = None if exponent is None else _negated(exponent)
    return to.no(node, "the divisor is not 1 + exp(-x)") if x is None else to.become(node, "Sigmoid", [x])


def _negated(value: ir.Value) -> ir.Value | None:
    """x of -x."""
    negation = producer(value, "Neg")
    if negation is not None:
        return negation.operand(0)
    times = with_scalar(producer(value, "Mul", "Div"), -1.0)
    return None if times is None else times[0]


@rule("Div")
def swish_by_quotient(node: Match, to: Lifter) -> bool:
    """x / (1 + exp(-alpha x))."""
    x, exponent = node.operand(0), _exponent(node.operand(1))
    if exponent is None:
        return to.no(node, "the divisor is not 1 + exp(...)")
    coefficient, powers = monomial(exponent, {x})
    if powers != Counter({x: 1}):
        return to.no(node, "the exponent is no multiple of what is divided")
    return to.become(node, "Swish", [x], {} if coefficient == -1 else {"alpha": -coefficient})


def _clipped(clip: Match | None) -> ir.Value | None:
    """x of clip(x + 3, 0, 6)."""
    if clip is None or scalar(clip.input(1)) != 0 or scalar(clip.input(2)) != 6:
        return None
    three = with_scalar(producer(clip.operand(0), "Add"), 3.0)
    return None if three is None else three[0]


@rule("Mul", "Div")
def hard_swish(node: Match, to: Lifter) -> bool:
    """x clip(x + 3, 0, 6) / 6 in any order, and clip(x + 3, 0, 6) / 6 alone, which is HardSigmoid."""
    for value in node.operands:
        clip = _factor(value, "Clip")
        x = _clipped(clip)
        if clip is None or x is None:
            continue
        if is_monomial(node.output, 1 / 6, {x: 1, clip.output: 1}):
            return to.become(node, "HardSwish", [x])
        if is_monomial(node.output, 1 / 6, {clip.output: 1}):
            return to.become(node, "HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})
    return to.no(node, "no factor is clip(x + 3, 0, 6) / 6")


@_gate("HardSigmoid", "hard sigmoid")
def gated_by_hard_sigmoid(node: Match, gate: Match, x: ir.Value, to: Lifter) -> bool:
    """x hard_sigmoid(x), of the slope that HardSwish has."""
    if gate.operand(0) is not x:
        return to.no(node, "the hard sigmoid is not of the other operand")
    if not np.allclose((gate.number("alpha"), gate.number("beta")), (1 / 6, 0.5), rtol=1e-4):
        return to.no(node, "the hard sigmoid has another slope")
    return to.become(node, "HardSwish", [x])


@rule("Div")
def softsign(node: Match, to: Lifter) -> bool:
    """x / (1 + |x|)."""
    x, below = node.operand(0), producer(node.operand(1), "Add")
    one = with_scalar(below, 1.0)
    size = None if one is None else producer(one[0], "Abs")
    if size is None or size.operand(0) is not x:
        return to.no(node, "the divisor is not 1 + |x|")
    return to.become(node, "Softsign", [x])
