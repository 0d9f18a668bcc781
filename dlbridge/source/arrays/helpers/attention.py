"""Helpers of attention."""

import math

from dlbridge.source.arrays import ops

#: Printed without the parameters that a file does not give; what is said of these stands beside their code.
PRINTED_BY_USE = ("attention", "visible_keys", "position_buckets")


def attention(
    q,
    k,
    v,
    mask=None,
    bias=None,
    heads=None,
    groups=None,
    is_causal=False,
    scale=None,
    softcap=None,
    *,
    dropout=None,
):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    if heads is not None:  # of (batch, time, heads * size)
        q, k, v = (ops.split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    if groups is not None:  # of heads, which share their keys and values
        k, v = (ops.repeat(x, groups, axis=1) for x in (k, v))
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    if softcap is not None:
        scores = softcap * ops.tanh(scores / softcap)
    if bias is not None:
        scores = bias + scores
    if mask is not None:
        scores = ops.where(mask, scores, float("-inf"))
    if is_causal:
        ones = ops.ones_like(scores[0, 0], dtype="int32")
        rows, columns = ops.cumsum(ones, axis=0), ops.cumsum(ones, axis=1)
        scores = ops.where(columns <= rows, scores, float("-inf"))
    weights = ops.softmax(scores) if mask is None and bias is None else masked_softmax(scores)
    if dropout is not None:
        weights = dropout(weights)
    y = ops.matmul(weights, v)
    return y if heads is None else ops.merge_heads(y)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = ops.equal(ops.max(scores, axis=-1, keepdims=True), float("-inf"))
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, scores)))


def visible_keys(x, padding=None, window=None, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = ops.shape(x)[axis]
    keys = queries if padding is None else ops.shape(padding)[1]
    places = ops.places(keys, x)
    own = ops.expand_dims(ops.places(queries, x) + (keys - queries), 1)
    seen = places <= own
    if window is not None:  # the last ones alone
        seen = ops.logical_and(seen, places > own - window)
    return seen[None, None] if padding is None else ops.logical_and(seen, padding[:, None, None])


def rotate_halves(x, cos, sin):
    """Rotary embedding: turns pairs of features, one from each half of x, by angles of these cosines and sines."""
    a, b = ops.split(x, 2, axis=-1)
    return x * cos + ops.concatenate([-b, a], axis=-1) * sin


def position_buckets(positions, num_buckets, max_distance, bidirectional=False):
    """The bucket of each relative position: near ones have their own, farther ones share those of their logarithm."""
    distance = ops.abs(positions) if bidirectional else -ops.minimum(positions, 0)
    if bidirectional:
        num_buckets = num_buckets // 2
    exact = num_buckets // 2
    scale = ops.log(ops.cast(distance, "float32") / exact) / math.log(max_distance / exact)
    far = ops.cast(scale * (num_buckets - exact), positions.dtype) + exact
    buckets = ops.where(distance < exact, distance, ops.minimum(far, num_buckets - 1))
    if bidirectional:
        buckets = ops.cast(positions > 0, positions.dtype) * num_buckets + buckets
    return buckets
