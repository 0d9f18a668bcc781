"""Heads of attention."""

from keras import layers, ops


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads), dtype=x.dtype)(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]), dtype=x.dtype)(x)
