"""Attention over heads."""

import keras
from keras import layers, ops


def attention(q, k, v, mask=None, heads=None, is_causal=False, scale=None, softcap=None):
    """Scaled dot-product attention of (batch, heads, time, size), or of (batch, time, heads * size) with ``heads``."""
    if heads is not None:
        q, k, v = (split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    if k.shape[1] != q.shape[1]:
        k, v = (ops.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.matmul(q * scale**0.5, ops.swapaxes(k, -1, -2) * scale**0.5)
    if softcap is not None:
        scores = softcap * ops.tanh(scores / softcap)
    if is_causal:
        ones = ops.ones_like(scores[0, 0], dtype="int32")
        rows, columns = ops.cumsum(ones, axis=0), ops.cumsum(ones, axis=1)
        scores = ops.where(columns <= rows, scores, float("-inf"))
    if mask is not None:
        boolean = keras.backend.standardize_dtype(mask.dtype) == "bool"
        scores = ops.where(mask, scores, float("-inf")) if boolean else mask + scores
    y = ops.matmul(ops.softmax(scores), v)
    return y if heads is None else merge_heads(y)


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads))(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
