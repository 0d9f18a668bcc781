"""Elementwise helpers."""

import math

from dlbridge.source.arrays import ops


def truncated_divide(a, b):
    """Integer division towards zero."""
    quotient = ops.floor_divide(a, b)
    inexact = ops.not_equal(quotient * b, a)
    mixed = ops.not_equal(a < 0, b < 0)
    return quotient + ops.cast(ops.logical_and(inexact, mixed), quotient.dtype)


def truncated_mod(a, b):
    """The remainder of integers, with the sign of the dividend."""
    return a - truncated_divide(a, b) * b


def shift_left(x, count, width):
    """x * 2**count; 0 where the count is outside of the width of the type."""
    outside = ops.logical_or(count < 0, count >= width)
    return ops.where(outside, ops.zeros_like(x), ops.left_shift(x, ops.where(outside, ops.zeros_like(count), count)))


def shift_right(x, count, width):
    """x / 2**count, rounded down; of a count outside of the width of the type, the sign alone stays."""
    outside = ops.logical_or(count < 0, count >= width)
    shifted = ops.right_shift(x, ops.where(outside, ops.zeros_like(count), count))
    return ops.where(outside, ops.where(x < 0, ops.bitwise_not(ops.zeros_like(x)), ops.zeros_like(x)), shifted)


def float8_cast(x, dtype, saturate=True):
    """x in a float type of few bits; beyond its range the largest numbers, or infinity (NaN, where it has none)."""
    limits = {"float8_e4m3fn": (448.0, 464.0), "float8_e5m2": (57344.0, 61440.0), "float4_e2m1fn": (6.0, math.inf)}
    limit, largest_rounded = limits[dtype]
    x = ops.cast(x, "float32")
    if saturate:
        return ops.cast(ops.where(ops.isnan(x), x, ops.clip(x, -limit, limit)), dtype)
    beyond = ops.abs(x) > largest_rounded
    outside = math.nan if dtype == "float8_e4m3fn" else ops.sign(x) * math.inf
    return ops.cast(ops.where(beyond, outside, ops.where(beyond, 0.0, ops.clip(x, -limit, limit))), dtype)


def shrink(x, bias, limit):
    """x moved by bias towards zero where it is outside [-limit, limit], else 0."""
    dtype = ops.standardize_dtype(x.dtype)
    x = ops.cast(x, "float32") if "int" in dtype else x
    return ops.cast(ops.where(x < -limit, x + bias, ops.where(x > limit, x - bias, 0.0)), dtype)
