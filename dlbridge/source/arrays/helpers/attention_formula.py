"""Attention by the whole formula of the standard; rotary embedding, and attention through a state."""

import math

from dlbridge.source.arrays import ops
from dlbridge.source.arrays.helpers.attention import masked_softmax


def onnx_attention(
    q,
    k,
    v,
    mask=None,
    past_key=None,
    past_value=None,
    lengths=None,
    causal=False,
    scale=None,
    softcap=None,
    heads=None,
    window=(-1, -1),
    softmax_dtype=None,
    score_output=0,
    *,
    dropout=None,
):
    """ONNX's Attention: y, the keys and values with the past ones, and the scores (at stage score_output)."""
    if heads is not None:
        q, k, v = (ops.split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    past = 0 if past_key is None else ops.shape(past_key)[2]
    k = k if past_key is None else ops.concatenate([past_key, k], axis=2)
    v = v if past_value is None else ops.concatenate([past_value, v], axis=2)
    groups = q.shape[1] // k.shape[1]
    keys, values = (ops.repeat(t, groups, axis=1) if groups > 1 else t for t in (k, v))
    root = math.sqrt(q.shape[-1] ** -0.5 if scale is None else scale)
    scores = ops.matmul(q * root, ops.swapaxes(keys, -1, -2) * root)
    stages = [scores]
    stages.append(softcap * ops.tanh(scores / softcap) if softcap else scores)
    stages.append(stages[1] + attention_bias(q, k, mask, past, lengths, causal, window))
    weights = masked_softmax(stages[2] if softmax_dtype is None else ops.cast(stages[2], softmax_dtype))
    stages.append(ops.cast(weights, q.dtype))
    weights = stages[3] if dropout is None else dropout(stages[3])
    y = ops.matmul(weights, ops.cast(values, q.dtype))
    return y if heads is None else ops.merge_heads(y), k, v, stages[score_output]


def attention_bias(q, k, mask, past, lengths, causal, window):
    """0 where a query may look at a key, -inf where not, plus the mask's own numbers."""
    queries, keys = ops.shape(q)[2], ops.shape(k)[2]
    bias = ops.zeros((queries, keys), dtype=q.dtype)
    nothing = float("-inf")
    if mask is not None:
        if ops.is_boolean(mask):
            mask = ops.cast(ops.where(mask, 0.0, nothing), q.dtype)
        *sizes, given = ops.shape(mask)
        rest = ops.full((*sizes, keys - given), nothing, dtype=q.dtype)
        bias = bias + ops.concatenate([mask, rest], axis=-1)
    columns, rows = ops.places(keys, q), ops.expand_dims(ops.places(queries, q), 1)
    counts = None if lengths is None else ops.reshape(ops.as_index(lengths), (-1, 1, 1, 1))
    ahead = columns - rows - (past if counts is None else counts - queries)
    if causal:
        bias = ops.where(ahead > 0, nothing, bias)
    if window[0] >= 0:
        bias = ops.where(-ahead > window[0], nothing, bias)
    if window[1] >= 0:
        bias = ops.where(ahead > window[1], nothing, bias)
    return bias if counts is None else ops.where(columns >= counts, nothing, bias)


def rotary_embedding(x, cos, sin, positions=None, interleaved=False, rotated=None, heads=None):
    """Turns pairs of features by angles that depend on the place in the sequence."""
    y = x if heads is None else ops.split_heads(x, heads)
    rotated = rotated or y.shape[-1]
    turned, rest = y[..., :rotated], y[..., rotated:]
    cos, sin = (ops.expand_dims(t if positions is None else ops.take(t, positions, axis=0), 1) for t in (cos, sin))
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else ops.split(turned, 2, axis=-1)
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        turned = ops.reshape(ops.stack([real, imaginary], axis=-1), ops.shape(turned))
    else:
        turned = ops.concatenate([real, imaginary], axis=-1)
    y = ops.concatenate([turned, rest], axis=-1) if rotated < y.shape[-1] else turned
    return y if heads is None else ops.merge_heads(y)


def linear_attention(q, k, v, heads, state=None, decay=None, beta=None, scale=None):
    """Attention through a state (batch, heads, keys, values): at each step decayed, written and read."""
    out_dtype, state_dtype = q.dtype, q.dtype if state is None else state.dtype
    q, k, v = (ops.cast(ops.split_heads(x, h), "float32") for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if state is None:
        state = ops.zeros((ops.shape(k)[0], k.shape[1], k.shape[-1], v.shape[-1]), dtype="float32")
    groups = heads[0] // heads[1]
    if decay is not None:
        decay = ops.exp(ops.cast(ops.split_heads(decay, heads[1]), "float32"))
    if beta is not None:
        beta = ops.expand_dims(ops.swapaxes(ops.cast(beta, "float32"), 1, 2), -1)

    def step(carried, query):
        t, state, _ = carried
        key, value = (ops.take(x, t, axis=2) for x in (k, v))
        if decay is not None:
            state = state * ops.expand_dims(ops.take(decay, t, axis=2), -1)
        if beta is not None:
            seen = ops.squeeze(ops.matmul(ops.expand_dims(key, -2), state), -2)
            value = ops.take(beta, t, axis=2) * (value - seen)
        state = state + ops.expand_dims(key, -1) * ops.expand_dims(value, -2)
        read = ops.repeat(state, groups, axis=1) if groups > 1 else state
        y = scale * ops.squeeze(ops.matmul(ops.expand_dims(query, -2), read), -2)
        return [t + 1, state, y], [t, state, y]  # TensorFlow's scan wants as many of both

    queries = ops.transpose(q, (2, 0, 1, 3))
    nothing = ops.zeros((ops.shape(q)[0], q.shape[1], v.shape[-1]), dtype="float32")
    first = [ops.cast(0, "int32"), ops.cast(state, "float32"), nothing]
    (_, last, _), (_, _, outputs) = ops.scan(step, first, queries)
    y = ops.merge_heads(ops.transpose(outputs, (1, 2, 0, 3)))
    return ops.cast(y, out_dtype), ops.cast(last, state_dtype)
