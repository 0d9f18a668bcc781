"""Elementwise helpers that work around what Keras, or its TensorFlow backend, lacks."""

from keras import ops

from dlbridge.source.arrays.helpers.elementwise import truncated_divide


def broadcast_add(a, b):
    """a + b of tensors of which Keras' TensorFlow backend would take either for a bias along an axis of the other."""
    return a - (ops.zeros_like(b) - b)


def broadcast_with(a, b):
    """a in the shape that a and b have together; ``where`` broadcasts along more axes than TensorFlow's operators."""
    return ops.where(ops.ones_like(b, dtype="bool"), a, a)


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
