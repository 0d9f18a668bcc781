"""Matrix products that Keras has no layer for."""

from keras import ops


def integer_matmul(a, b):
    """The matrix product of integers, exact modulo the range of their type."""
    left = a if len(a.shape) > 1 else ops.expand_dims(a, 0)
    right = b if len(b.shape) > 1 else ops.expand_dims(b, 1)
    product = ops.sum(ops.expand_dims(left, -1) * ops.expand_dims(right, -3), axis=-2)
    gone = [axis for axis, x in ((-2, a), (-1, b)) if len(x.shape) == 1]
    return ops.squeeze(product, axis=tuple(gone)) if gone else product
