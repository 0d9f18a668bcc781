"""Integer arithmetic that rounds towards zero."""

from keras import ops


def truncated_divide(a, b):
    """Integer division towards zero."""
    return ops.sign(a) * ops.sign(b) * ops.floor_divide(ops.abs(a), ops.abs(b))


def truncated_mod(a, b):
    """The remainder with the sign of the dividend."""
    return ops.sign(a) * ops.mod(ops.abs(a), ops.abs(b))
