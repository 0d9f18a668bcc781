"""Helpers of attention."""

import torch


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
