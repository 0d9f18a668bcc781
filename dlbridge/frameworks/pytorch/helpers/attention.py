"""Helpers of attention."""

import torch


def attention(
    q,
    k,
    v,
    mask=None,
    past_key=None,
    past_value=None,
    lengths=None,
    causal=False,
    scale=None,
    softcap=0.0,
    heads=None,
    window=(-1, -1),
    softmax_dtype=None,
    score_output=0,
):
    """ONNX's Attention: y, the keys and values with the past ones, and the scores (at stage score_output)."""
    if heads is not None:
        q, k, v = (t.unflatten(-1, (n, -1)).transpose(1, 2) for t, n in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    past = 0 if past_key is None else past_key.shape[2]
    k = k if past_key is None else torch.cat([past_key, k], 2)
    v = v if past_value is None else torch.cat([past_value, v], 2)
    bias = attention_bias(q, k, mask, past, lengths, causal, window)
    groups = q.shape[1] // k.shape[1]
    keys, values = (t.repeat_interleave(groups, 1) if groups > 1 else t for t in (k, v))
    root = torch.tensor(q.shape[-1] ** -0.5 if scale is None else scale, dtype=torch.float64).sqrt().to(q)
    scores = (q * root) @ (keys * root).transpose(-1, -2)
    stages = {0: scores}
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    stages[1] = scores
    scores = stages[2] = scores + bias
    weights = scores.to(softmax_dtype or scores.dtype).softmax(-1)
    nothing = bias.amax(-1, keepdim=True).isneginf()
    weights = stages[3] = torch.where(nothing, 0, weights).to(q.dtype)
    y = weights @ values
    return y if heads is None else y.transpose(1, 2).flatten(2), k, v, stages[score_output]


def attention_bias(q, k, mask, past, lengths, causal, window):
    """0 where a query may look at a key, -inf where not, plus the mask's own numbers."""
    queries, keys = q.shape[2], k.shape[2]
    bias = torch.zeros(queries, keys, dtype=q.dtype, device=q.device)
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -float("inf"))
        short = keys - mask.shape[-1]
        bias = bias + torch.nn.functional.pad(mask, (0, short), value=-float("inf"))
    offset = past if lengths is None else lengths.view(-1, 1, 1, 1) - queries
    ahead = torch.arange(keys, device=q.device) - torch.arange(queries, device=q.device).view(-1, 1) - offset
    hidden = torch.zeros_like(ahead, dtype=torch.bool)
    if causal:
        hidden = hidden | (ahead > 0)
    if window[0] >= 0:
        hidden = hidden | (-ahead > window[0])
    if window[1] >= 0:
        hidden = hidden | (ahead > window[1])
    if lengths is not None:
        hidden = hidden | (torch.arange(keys, device=q.device) >= lengths.view(-1, 1, 1, 1))
    return bias.masked_fill(hidden, -float("inf")) if hidden.dim() == 2 else torch.where(hidden, -float("inf"), bias)


def rotary_embedding(x, cos, sin, positions=None, interleaved=False, rotated=None, num_heads=None):
    """Turns pairs of features by angles that depend on the place in the sequence."""
    heads = x if num_heads is None else x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    turned, rest = heads.tensor_split([heads.shape[-1] if rotated is None else rotated], -1)
    cos, sin = ((t if positions is None else t[positions]).unsqueeze(1) for t in (cos, sin))
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    turned = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    y = torch.cat([turned, rest], -1)
    return y if num_heads is None else y.transpose(1, 2).flatten(2)


def linear_attention(q, k, v, q_heads, kv_heads, state=None, decay=None, beta=None, scale=None):
    """Attention through a state (batch, heads, keys, values): at each step decayed, written and read."""
    out_dtype, state_dtype = q.dtype, q.dtype if state is None else state.dtype
    q, k, v = (
        t.unflatten(-1, (n, -1)).transpose(1, 2).float() for t, n in ((q, q_heads), (k, kv_heads), (v, kv_heads))
    )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    state = q.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]) if state is None else state.float()
    if decay is not None:
        decay = decay.unflatten(-1, (kv_heads, -1)).transpose(1, 2).float().exp()
    if beta is not None:
        beta = beta.unsqueeze(-1).transpose(1, 2).float()
    outputs = []
    for t in range(q.shape[2]):
        key, value = k[:, :, t], v[:, :, t]
        if decay is not None:
            state = state * decay[:, :, t, :, None]
        if beta is not None:
            value = beta[:, :, t] * (value - (key.unsqueeze(-2) @ state).squeeze(-2))
        state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        seen = state.repeat_interleave(q_heads // kv_heads, 1)
        outputs.append((q[:, :, t, None] @ seen).squeeze(-2) * scale)
    y = torch.stack(outputs, 2).transpose(1, 2).flatten(2)
    return y.to(out_dtype), state.to(state_dtype)
