import torch
import torch.nn.functional as F
from torch import nn


def visible_keys(x, padding=None, window=None, axis=1):
    """Which keys each query sees: those that are there, up to its own place, and of these the last ``window``."""
    queries = x.shape[axis]
    keys = queries if padding is None else padding.shape[1]
    places = torch.arange(keys, device=x.device)
    own = (torch.arange(queries, device=x.device) + (keys - queries)).unsqueeze(1)
    seen = places <= own
    if window is not None:
        seen = torch.logical_and(seen, places > own - window)
    return seen[None, None] if padding is None else torch.logical_and(seen, padding[:, None, None])


def rotate_halves(x, cos, sin):
    """Rotary embedding: turns pairs of features, one from each half of x, by angles of these cosines and sines."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class MistralRotaryEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer(
            "inv_freq",
            torch.tensor(
                [1.0, 0.31622776, 0.1, 0.03162278, 0.01, 0.0031622779, 0.001, 0.0003162278],
                dtype=torch.float32,
            ),
            persistent=False,
        )

    def forward(self, x):
        x = x.unsqueeze(2)
        freqs = x.to(torch.float32)
        freqs = freqs * self.inv_freq
        emb = torch.cat([freqs, freqs], dim=2)
        cos = torch.cos(emb)
        sin = torch.sin(emb)
        return cos, sin


class MistralAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64, bias=False)
        self.k_proj = nn.Linear(64, 32, bias=False)
        self.v_proj = nn.Linear(64, 32, bias=False)
        self.o_proj = nn.Linear(64, 64, bias=False)

    def forward(self, x, cos, sin, causal_mask):
        out = self.q_proj(x)
        query_states = out.reshape(out.shape[0], out.shape[1], 4, 16)
        query_states = query_states.transpose(1, 2)
        out = self.k_proj(x)
        key_states = out.reshape(out.shape[0], out.shape[1], 2, 16)
        key_states = key_states.transpose(1, 2)
        x = self.v_proj(x)
        value_states = x.reshape(x.shape[0], x.shape[1], 2, 16)
        value_states = value_states.transpose(1, 2)
        cos = cos.unsqueeze(1)
        sin = sin.unsqueeze(1)
        query_states = rotate_halves(query_states, cos, sin)
        key_states = rotate_halves(key_states, cos, sin)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=causal_mask, enable_gqa=True
        )
        attn_output = attn_output.transpose(1, 2)
        attn_output = attn_output.flatten(2)
        return self.o_proj(attn_output)


class SiLUActivation(nn.Module):
    def forward(self, x):
        return F.silu(x)


class MistralMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(64, 96, bias=False)
        self.act_fn = SiLUActivation()
        self.up_proj = nn.Linear(64, 96, bias=False)
        self.down_proj = nn.Linear(96, 64, bias=False)

    def forward(self, x):
        down_proj = self.gate_proj(x)
        act_fn = self.act_fn(down_proj)
        x = self.up_proj(x)
        down_proj = act_fn * x
        return self.down_proj(down_proj)


class MistralDecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(64, eps=1e-06)
        self.self_attn = MistralAttention()
        self.post_attention_layernorm = nn.RMSNorm(64, eps=1e-06)
        self.mlp = MistralMLP()

    def forward(self, x, cos, sin, causal_mask):
        input_layernorm = self.input_layernorm(x)
        attn_output = self.self_attn(input_layernorm, cos, sin, causal_mask)
        hidden_states = x + attn_output
        x = self.post_attention_layernorm(hidden_states)
        down_proj = self.mlp(x)
        return hidden_states + down_proj


class MistralModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64)
        self.rotary_emb = MistralRotaryEmbedding()
        self.layers = nn.ModuleList([MistralDecoderLayer() for _ in range(3)])
        self.norm = nn.RMSNorm(64, eps=1e-06)

    def forward(self, input_ids, attention_mask):
        embed_tokens = self.embed_tokens(input_ids)
        position_ids = torch.arange(embed_tokens.shape[1], device=embed_tokens.device)
        position_ids = position_ids.unsqueeze(0)
        attention_mask = attention_mask.to(torch.bool)
        causal_mask = visible_keys(embed_tokens, attention_mask, window=4)
        cos, sin = self.rotary_emb(position_ids)
        hidden_states = self.layers[0](embed_tokens, cos, sin, causal_mask)
        hidden_states = self.layers[1](hidden_states, cos, sin, causal_mask)
        hidden_states = self.layers[2](hidden_states, cos, sin, causal_mask)
        return self.norm(hidden_states)


class MistralForCausalLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = MistralModel()
        self.lm_head = nn.Linear(64, 128, bias=False)

    def forward(self, input_ids, attention_mask):
        x = self.model(input_ids, attention_mask)
        return self.lm_head(x)
