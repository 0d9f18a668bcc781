"""Elementwise helpers."""

import math

import keras
from keras import ops


def broadcast_add(a, b):
    """a + b of tensors of which Keras' TensorFlow backend would take either for a bias along an axis of the other."""
    return a - (ops.zeros_like(b) - b)


def broadcast_with(a, b):
    """a in the shape that a and b have together; ``where`` broadcasts along more axes than TensorFlow's operators."""
    return ops.where(ops.ones_like(b, dtype="bool"), a, a)


def truncated_divide(a, b):
    """Integer division towards zero."""
    quotient = ops.floor_divide(a, b)
    inexact = ops.not_equal(quotient * b, a)
    mixed = ops.not_equal(a < 0, b < 0)
    return quotient + ops.cast(ops.logical_and(inexact, mixed), quotient.dtype)


def truncated_mod(a, b):
    """The remainder of integers, with the sign of the dividend."""
    return a - truncated_divide(a, b) * b


def flip_top_bit(x):
    """Maps the bits of unsigned 64-bit numbers to int64 numbers of the same order, and back."""
    return ops.bitwise_xor(x, ops.full_like(x, -(2**63)))


def as_uint64(outputs, big, flip=False):
    """The outputs, with those that are big in uint64."""
    return tuple(
        ops.cast(flip_top_bit(x) if flip else x, "uint64") if wide else x for x, wide in zip(outputs, big, strict=True)
    )


def divide_uint64(a, b):
    """Quotient and remainder of the bits of unsigned 64-bit numbers that int64 tensors hold."""
    half = ops.left_shift(truncated_divide(shift_right_uint64(a, ops.ones_like(a)), b), ops.ones_like(a))
    more = flip_top_bit(a - half * b) >= flip_top_bit(b)
    quotient = ops.where(b < 0, ops.cast(flip_top_bit(a) >= flip_top_bit(b), "int64"), half + ops.cast(more, "int64"))
    return quotient, a - quotient * b


def shift_right_uint64(x, count):
    """Bits of unsigned 64-bit numbers, held by int64, shifted to the right."""
    one = ops.ones_like(x)
    half = ops.bitwise_and(ops.right_shift(x, one), ops.full_like(x, 2**63 - 1))
    shifted = ops.right_shift(half, ops.clip(count - 1, 0, 63))
    outside = ops.logical_or(count < 0, count > 63)
    return ops.where(outside, ops.zeros_like(x), ops.where(ops.equal(count, 0), x, shifted))


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
    """x in an 8-bit float type; beyond its range the largest numbers, or infinity (NaN, where it has none)."""
    limit, largest_rounded = {"float8_e4m3fn": (448.0, 464.0), "float8_e5m2": (57344.0, 61440.0)}[dtype]
    x = ops.cast(x, "float32")
    if saturate:
        return ops.cast(ops.where(ops.isnan(x), x, ops.clip(x, -limit, limit)), dtype)
    beyond = ops.abs(x) > largest_rounded
    outside = math.nan if dtype == "float8_e4m3fn" else ops.sign(x) * math.inf
    return ops.cast(ops.where(beyond, outside, ops.where(beyond, 0.0, ops.clip(x, -limit, limit))), dtype)


def shrink(x, bias, limit):
    """x moved by bias towards zero where it is outside [-limit, limit], else 0."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    x = ops.cast(x, "float32") if "int" in dtype else x
    return ops.cast(ops.where(x < -limit, x + bias, ops.where(x > limit, x - bias, 0.0)), dtype)
