"""Sizes of tensors as numbers that resizing computes with."""

import keras
from keras import ops

from dlbridge.source.arrays.helpers.resize import is_number


def precise(size):
    """A size to compute with: an int, or where it is not known a float, which JAX has no double of."""
    return size if is_number(size) else ops.cast(size, "float32" if keras.config.backend() == "jax" else "float64")
