"""Activations that are written as a maximum, a minimum or a choice: Relu, Clip, LeakyRelu, Elu, Softplus.

``Where(x > 0, x, 0)`` is no Relu, and ``Where(x > a, x, 0)`` stays as it is too: they make 0 of NaN, which Relu and
the thresholds of frameworks pass on.
"""

from __future__ import annotations

import math
from collections import Counter

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.passes.lift.activation import monomial
from dlbridge.passes.lift.pattern import KINDS_KNOWN, Lifter, rule, scalar, with_scalar
from dlbridge.passes.matching import Match, dtype_of, producer, sole_producer


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


@rule("Max")
def relu(node: Match, to: Lifter) -> bool:
    """max(x, 0)."""
    zero = with_scalar(node, 0.0)
    if zero is None or not _is_float(zero[0]):
        return to.no(node, "it is not of floats and 0")
    return to.become(node, "Relu", [zero[0]])


@rule("Max")
def leaky_relu(node: Match, to: Lifter) -> bool:
    """max(x, alpha x) for 0 < alpha < 1."""
    for x, other in node.orders():
        alpha = _multiple(other, x)
        if alpha is not None and 0 < alpha < 1 and _is_float(x):
            return to.become(node, "LeakyRelu", [x], {"alpha": alpha})
    return to.no(node, "no operand is a part of the other")


@rule("Min", "Max")
def clip(node: Match, to: Lifter) -> bool:
    """min(max(x, low), high) and max(min(x, high), low) for low <= high."""
    outer = with_scalar(node)
    if outer is None or not _is_float(outer[0]):
        return to.no(node, "it is not of floats and a number")
    inner = _with_lowest(outer[0]) if node.is_op("Min") else with_scalar(sole_producer(outer[0], "Min"))
    if inner is None:
        return to.no(node, "the other operand is not bounded on the other side")
    low, high = (inner[1], outer[1]) if node.is_op("Min") else (outer[1], inner[1])
    if not low <= high:
        return to.no(node, "the bounds are not in order")
    dtype = dtype_of(outer[0])
    bounds = [to.constant(f"{node.name}.{name}", bound, dtype) for name, bound in (("min", low), ("max", high))]
    return to.become(node, "Clip", [inner[0], *bounds])


def _with_lowest(value: ir.Value) -> tuple[ir.Value, float] | None:
    """(x, low) of a value that is max(x, low) and read once; a Relu that is a module of its own stays one."""
    inner = sole_producer(value, "Max", "Relu")
    if inner is None or inner.is_op("Max"):
        return with_scalar(inner)
    is_module = inner.graph.meta.get(KINDS_KNOWN) and not traits.is_anonymous(inner.node)
    return None if is_module else (inner.operand(0), 0.0)


def _chosen_above_zero(node: Match) -> tuple[ir.Value, ir.Value] | None:
    """(x, what is taken below 0) of a Where that takes x where it is above 0; which is taken of 0 itself is left open.

    Where x is NaN, it takes either.
    """
    asked = producer(node.operand(0), "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    if asked is None:
        return None
    x, zero = asked.operand(0), asked.operand(1)
    is_above = asked.is_op("Greater", "GreaterOrEqual")
    if scalar(x) is not None:
        x, zero, is_above = zero, x, not is_above
    above, below = node.operand(1 if is_above else 2), node.operand(2 if is_above else 1)
    return (x, below) if scalar(zero) == 0 and above is x and _is_float(x) else None


#: Where an exporter writes x for softplus(x): log(1 + exp(x)) is x + exp(-x), less than half a ULP of a float32 more.
_SOFTPLUS_IS_X = 20.0


@rule("Where")
def softplus_with_threshold(node: Match, to: Lifter) -> bool:
    """x where x > 20, else softplus(x): as exporters write PyTorch's softplus."""
    soft, condition = producer(node.operand(2), "Softplus"), producer(node.operand(0), "Greater")
    x = node.operand(1)
    if soft is None or soft.operand(0) is not x:
        return to.no(node, "it is not x or softplus(x)")
    threshold = scalar(condition.input(1)) if condition is not None and condition.operand(0) is x else None
    if threshold is None or threshold < _SOFTPLUS_IS_X:
        return to.no(node, "x is not taken where it is above a number of 20 or more")
    return to.become(node, "Softplus", [x])


@rule("Where")
def leaky_relu_or_elu(node: Match, to: Lifter) -> bool:
    """x where it is above 0, elsewhere alpha x or alpha (exp(x) - 1), for a positive alpha."""
    found = _chosen_above_zero(node)
    if found is None:
        return to.no(node, "it does not take x where x is above 0")
    x, below = found
    for op_type, alpha in (("LeakyRelu", _multiple(below, x)), ("Elu", _multiple_of_expm1(below, x))):
        if alpha is not None and 0 < alpha < math.inf:
            return to.become(node, op_type, [x], {"alpha": alpha})
    return to.no(node, "what it takes below 0 is no positive multiple of x or of exp(x) - 1")


def _multiple(value: ir.Value, x: ir.Value) -> float | None:
    """alpha of a value that is alpha x."""
    coefficient, powers = monomial(value, {x})
    return coefficient if powers == Counter({x: 1}) else None


def _multiple_of_expm1(value: ir.Value, x: ir.Value) -> float | None:
    """alpha of a value that is alpha (exp(x) - 1)."""
    less, alpha = with_scalar(producer(value, "Mul")) or (value, 1.0)
    one = with_scalar(producer(less, "Sub"), 1.0)
    power = None if one is None else producer(one[0], "Exp")
    return None if power is None or power.operand(0) is not x else alpha
