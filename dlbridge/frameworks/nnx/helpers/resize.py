"""Where each output element of a resize lies in the input, for sizes that are numbers."""

import math

import jax.numpy as jnp

from dlbridge.source.arrays.helpers.resize import source_coordinate


def scaled_size(width, scale):
    """What is whole of scale * width."""
    return math.floor(scale * width)


def source_places(x, width, scale, size, coordinates, region):
    """Where in the input each output element lies: the index below, and the part of the step to the next."""
    at = [source_coordinate(y, width, scale, size, coordinates, region) for y in range(size)]
    down = [math.floor(c) for c in at]
    parts = [c - d for c, d in zip(at, down, strict=True)]
    return jnp.array(down, dtype="int32"), jnp.array(parts, dtype="float64" if x.dtype == "float64" else "float32")
