"""Integers: powers, shifts and division as torch computes them, which wraps round where a type ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.graph.control import repeat
from dlbridge.frameworks.pytorch.graph.reading import Op, reads

#: Tensor exponents of types as narrow as this are taken bit by bit: onnxruntime computes Pow of integers in floats.
_NARROW = 16


def _limits(dtype: ir.DataType) -> np.iinfo:
    return np.iinfo(dtype.numpy())


def _wrapped(number: int, dtype: ir.DataType) -> int:
    """A number in a type for which it may be too large; it wraps round."""
    limits = _limits(dtype)
    return (number - limits.min) % (1 << limits.bits) + limits.min


def floor_divide(op: Op, x: Any, y: Any) -> ir.Value:
    """Floor division: ONNX' Div truncates, so it is one too large if there is a remainder and the signs differ."""
    x = op.cast(x)
    divisor = op.cast(y)
    if not op.dtype.is_signed():
        return x / divisor
    rest = op("Mod", x, divisor)  # it has the divisor's sign
    if isinstance(y, int) and y > 0 and y & (y - 1) == 0:
        return (x - rest) / divisor
    truncated = op("Mod", x, divisor, fmod=1)
    more = op.cast(op("Not", op("Equal", rest, truncated)))
    return x / divisor - more


# --- powers --------------------------------------------------------------------------------------------------------


def power(op: Op, x: Any, exponent: Any) -> ir.Value:
    """A power of integers; if the exponent is fixed, as products."""
    base = op.cast(x)
    if isinstance(exponent, int) and exponent >= 0:
        return _fixed_power(op, base, exponent)
    if op.dtype.bitwidth > _NARROW or not isinstance(exponent, ir.Value):
        return op.binary("Pow", base, exponent)
    return _power_by_bits(op, base, op.cast(exponent))


def _fixed_power(op: Op, base: ir.Value, exponent: int) -> ir.Value:
    """A power by repeated squaring, for an exponent in a tensor."""
    if exponent == 0:
        return op.filled(1, base.dtype, op.sizes)
    result = None
    while True:
        if exponent & 1:
            result = base if result is None else result * base
        exponent >>= 1
        if not exponent:
            return result  # type: ignore[return-value]
        base = base * base


def _power_by_bits(op: Op, base: ir.Value, exponent: ir.Value) -> ir.Value:
    """As of a fixed exponent; of one below zero 1 and -1 alone have a power that is not 0."""
    dtype = op.dtype
    negative = op("Less", exponent, 0) if dtype.is_signed() else None
    signless = negative is not None and op("Or", op("Equal", base, 1), op("Equal", base, -1))
    bits, square, result = exponent, base, op.number(1, dtype)
    for _ in range(dtype.bitwidth - int(dtype.is_signed())):
        result = result * op("Where", op("Equal", op("Mod", bits, 2), 1), square, 1)
        bits, square = bits / 2, square * square
    if negative is None:
        return result
    odd = op("Equal", op("Mod", exponent, 2), 1)
    return op("Where", negative, op("Where", signless, op("Where", odd, base, 1), 0), result)


# --- shifts --------------------------------------------------------------------------------------------------------


@reads("aten.bitwise_left_shift", "aten.__lshift__")
def shift_left(op: Op, x: Any, count: Any) -> ir.Value:
    """Shift left by multiplication, as ONNX shifts unsigned integers only; a shift by all bits gives 0."""
    bits = op.dtype.bitwidth
    x = op.cast(x)
    if isinstance(count, int):
        factor = 1 << count if 0 <= count < bits else 0
        return x * _wrapped(factor, op.dtype)
    factors = [_wrapped(1 << i, op.dtype) for i in range(bits)]
    return x * op("Gather", op.constant([*factors, 0], op.dtype), _within(op, count, bits))


@reads("aten.bitwise_right_shift", "aten.__rshift__")
def shift_right(op: Op, x: Any, count: Any) -> ir.Value:
    """Shift right by floor division; a shift by all bits leaves the sign."""
    bits = op.dtype.bitwidth
    x = op.cast(x)
    if not op.dtype.is_signed():
        return _unsigned_right(op, x, count, bits)
    sign = -op.cast(op("Less", x, 0))
    if isinstance(count, int):
        return floor_divide(op, x, 1 << count) if 0 <= count < bits - 1 else sign
    count = _within(op, count, bits - 1)
    divisor = op("Gather", op.constant([1 << i for i in range(bits - 1)] + [1], op.dtype), count)
    shifted = (x - op("Mod", x, divisor)) / divisor
    return op("Where", op("Equal", count, bits - 1), sign, shifted)


def _unsigned_right(op: Op, x: ir.Value, count: Any, bits: int) -> ir.Value:
    if isinstance(count, int):
        return op("BitShift", x, count, direction="RIGHT") if 0 <= count < bits else x * 0
    divisors = op.constant([1 << i for i in range(bits)] + [1], op.dtype)
    count = _within(op, count, bits)
    return op("Where", op("Equal", count, bits), 0, x / op("Gather", divisors, count))


def _within(op: Op, count: ir.Value, bits: int) -> ir.Value:
    """The number of bits to shift by as int64; numbers out of range become ``bits``."""
    places = op.cast(count, ir.DataType.INT64)
    outside = op("Or", op("Less", places, 0), op("GreaterOrEqual", places, bits))
    return op("Where", outside, bits, places)


# --- divisors ------------------------------------------------------------------------------------------------------


def _common_divisor(op: Op, x: Any, y: Any) -> ir.Value:
    """Euclid's algorithm, for as many rounds as the largest numbers of the type take."""
    states = [op("Expand", op.cast(v), op.sizes) for v in (x, y)]

    def step(k: ir.Value, a: ir.Value, b: ir.Value) -> list[ir.Value]:
        done = op("Equal", b, 0)
        rest = op("Mod", a, op("Where", done, 1, b), fmod=1)
        return [op("Where", done, a, b), op("Where", done, 0, rest)]

    rounds = op.number(
        op.dtype.bitwidth * 3 // 2, ir.DataType.INT64
    )  # consecutive Fibonacci numbers need the most rounds
    return op("Abs", repeat(op, rounds, states, step)[0])


@reads("aten.gcd")
def gcd(op: Op, x: Any, y: Any) -> ir.Value:
    return _common_divisor(op, x, y)


@reads("aten.lcm")
def lcm(op: Op, x: Any, y: Any) -> ir.Value:
    divisor = op("Max", _common_divisor(op, x, y), 1)
    return op("Abs", op.cast(x) / divisor * op.cast(y))
