"""Poolings that Keras has no function for."""

import math

from keras import ops


def average_pool(x, size, strides, counted, uncounted):
    """The mean over windows; ``uncounted`` pads do not count."""
    x = ops.pad(x, counted)
    ones = ops.pad(ops.ones_like(x), uncounted)
    x = ops.pad(x, uncounted)
    return ops.average_pool(x, size, strides) / ops.average_pool(ones, size, strides)


def lp_pool(x, p, size, strides, pads):
    """The p-norm over windows."""
    powers = ops.power(ops.abs(ops.pad(x, pads)), p)
    return ops.power(ops.average_pool(powers, size, strides) * math.prod(size), 1 / p)
