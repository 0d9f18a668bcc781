"""Functions that the standard has no op for, as formulas of its ops: the readers of all frameworks share them.

Operands are values of one dtype; what frameworks mean by a function of integers is the reader's affair. Python's
operators ``+ - * /`` on values make nodes, where :func:`arithmetic_of` says whose.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import onnx_ir as ir


class Nodes(Protocol):
    """What makes nodes while a model is read."""

    def __call__(self, op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """A node's output, or a list of several. A number among the inputs is of the type that the op asks for."""

    def number(self, number: Any, dtype: Any) -> ir.Value:
        """A number as a value without axes."""


Formula = Callable[..., ir.Value]

_nodes: ContextVar[Nodes] = ContextVar("_nodes")


@contextlib.contextmanager
def arithmetic_of(nodes: Nodes) -> Iterator[None]:
    """Within the block, ``a * x + b`` makes a Mul and an Add among these nodes. A number is of the value's dtype.

    The block is that of this thread alone. An array or a NumPy number must not stand first: NumPy would compute.
    """
    token = _nodes.set(nodes)
    try:
        yield
    finally:
        _nodes.reset(token)


class _Arithmetic:
    """What ``onnx_ir`` asks to make the nodes of its values' operators: ``Add(a, b)`` for ``a + b``."""

    def __getattr__(self, op_type: str) -> Any:
        return functools.partial(_nodes.get(), op_type)


ir.set_value_magic_handler(_Arithmetic())

# --- of one operand ---------------------------------------------------------------------------------------------------


def square(op: Nodes, x: ir.Value) -> ir.Value:
    return x * x


def rsqrt(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Reciprocal", op("Sqrt", x))


def exp2(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Pow", 2, x)


def expm1(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Exp", x) - 1


def log1p(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Log", x + 1)


def log2(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Log", x) / math.log(2)


def log10(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Log", x) / math.log(10)


def deg2rad(op: Nodes, x: ir.Value) -> ir.Value:
    return x * (math.pi / 180)


def rad2deg(op: Nodes, x: ir.Value) -> ir.Value:
    return x * (180 / math.pi)


def sinc(op: Nodes, x: ir.Value) -> ir.Value:
    """sin(pi x) / (pi x), and 1 where x is 0."""
    scaled = x * math.pi
    zero = op("Equal", scaled, 0)
    return op("Where", zero, 1, op("Sin", scaled) / op("Where", zero, 1, scaled))


def log_sigmoid(op: Nodes, x: ir.Value) -> ir.Value:
    return -op("Softplus", -x)


def truncated(op: Nodes, x: ir.Value) -> ir.Value:
    """A float without what is behind its point."""
    return op("Floor", op("Abs", x)) * op("Sign", x)


def rounded(op: Nodes, x: ir.Value, decimals: int) -> ir.Value:
    """A float, rounded to so many places behind its point."""
    if not decimals:
        return op("Round", x)
    scale = 10.0**decimals
    return op("Round", x * scale) / scale


def is_finite(op: Nodes, x: ir.Value) -> ir.Value:
    return op("Not", op("Or", op("IsNaN", x), op("IsInf", x)))


def has_sign(op: Nodes, x: ir.Value) -> ir.Value:
    """Whether the sign bit of a float is set: below zero, or -0.0, whose reciprocal is minus infinity."""
    return op("Or", op("Less", x, 0), op("Equal", op("Reciprocal", x), -math.inf))


def finite(op: Nodes, x: ir.Value, nan: float, high: float, low: float) -> ir.Value:
    """Floats with numbers in place of NaN and the infinities."""
    filled = op("Where", op("IsNaN", x), nan, x)
    filled = op("Where", op("IsInf", x, detect_negative=0), high, filled)
    return op("Where", op("IsInf", x, detect_positive=0), low, filled)


def threshold(op: Nodes, x: ir.Value, limit: float, value: float) -> ir.Value:
    """x above the limit, else the value."""
    if value == 0 and limit >= 0:
        return op("ThresholdedRelu", x, alpha=float(limit))
    return op("Where", op("Greater", x, limit), x, value)


def gated(op: Nodes, x: ir.Value, axis: int) -> ir.Value:
    """The first half along an axis, weighed by the sigmoid of the second (GLU)."""
    value, gate = op("Split", x, outputs=2, axis=axis, num_outputs=2)
    return value * op("Sigmoid", gate)


# --- of two -----------------------------------------------------------------------------------------------------------


def atan2(op: Nodes, y: ir.Value, x: ir.Value) -> ir.Value:
    """atan(y / x), turned by pi on the left half, and +-pi/2 where x is 0."""
    none = op("Equal", x, 0)
    turn = op("Where", op("Less", y, 0), op.number(-math.pi, x.dtype), math.pi)
    base = op("Atan", y / op("Where", none, 1, x))
    turned = op("Where", op("Less", x, 0), base + turn, base)
    return op("Where", none, op("Sign", y) * (math.pi / 2), turned)


def hypot(op: Nodes, a: ir.Value, b: ir.Value) -> ir.Value:
    return op("Sqrt", a * a + b * b)


def logaddexp(op: Nodes, a: ir.Value, b: ir.Value) -> ir.Value:
    """max + log(1 + exp(-|a - b|)), which does not overflow; the distance of equal infinities is 0."""
    return op("Max", a, b) + op("Softplus", -_distance(op, a, b))


def logaddexp2(op: Nodes, a: ir.Value, b: ir.Value) -> ir.Value:
    """As :func:`logaddexp`, to base 2."""
    more = op("Softplus", _distance(op, a, b) * -math.log(2))
    return op("Max", a, b) + more / math.log(2)


def _distance(op: Nodes, a: ir.Value, b: ir.Value) -> ir.Value:
    return op("Where", op("Equal", a, b), 0, op("Abs", a - b))


def unless_nan(op: Nodes, a: ir.Value, b: ir.Value, chosen: ir.Value) -> ir.Value:
    """The one that was chosen of two floats; of a number and NaN the number."""
    return op("Where", op("IsNaN", a), b, op("Where", op("IsNaN", b), a, chosen))
