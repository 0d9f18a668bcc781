import torch
import torch.nn.functional as F
from torch import nn


def visible_keys(x, padding, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = x.shape[axis]
    keys = padding.shape[1]
    places = torch.arange(keys, device=x.device)
    own = (torch.arange(queries, device=x.device) + (keys - queries)).unsqueeze(1)
    return torch.logical_and(places <= own, padding[:, None, None])


def rotate_halves(x, cos, sin):
    """Rotary embedding: turns pairs of features, one from each half of x, by angles of these cosines and sines."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class LlamaRotaryEmbedding(nn.Module):
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

    def forward(self, position_ids):
        freqs = position_ids.unsqueeze(2).to(torch.float32) * self.inv_freq
        emb = torch.cat([freqs, freqs], dim=2)
        cos = torch.cos(emb)
        sin = torch.sin(emb)
        return cos, sin


class LlamaAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64, bias=False)
        self.k_proj = nn.Linear(64, 32, bias=False)
        self.v_proj = nn.Linear(64, 32, bias=False)
        self.o_proj = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, cos, sin, attention_mask):
        query_states = self.q_proj(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k_proj(hidden_states).unflatten(2, (2, 16)).transpose(1, 2)
        value_states = self.v_proj(hidden_states).unflatten(2, (2, 16)).transpose(1, 2)
        cos = cos.unsqueeze(1)
        sin = sin.unsqueeze(1)
        query_states = rotate_halves(query_states, cos, sin)
        key_states = rotate_halves(key_states, cos, sin)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attention_mask, enable_gqa=True
        )
        return self.o_proj(attn_output.transpose(1, 2).flatten(2))


class LlamaMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(64, 96, bias=False)
        self.act_fn = nn.SiLU()
        self.up_proj = nn.Linear(64, 96, bias=False)
        self.down_proj = nn.Linear(96, 64, bias=False)

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class LlamaDecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(64, eps=1e-06)
        self.self_attn = LlamaAttention()
        self.post_attention_layernorm = nn.RMSNorm(64, eps=1e-06)
        self.mlp = LlamaMLP()

    def forward(self, hidden_states, cos, sin, attention_mask):
        attn_output = self.self_attn(self.input_layernorm(hidden_states), cos, sin, attention_mask)
        hidden_states = hidden_states + attn_output
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class LlamaModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64)
        self.rotary_emb = LlamaRotaryEmbedding()
        self.layers = nn.ModuleList([LlamaDecoderLayer() for _ in range(3)])
        self.norm = nn.RMSNorm(64, eps=1e-06)

    def forward(self, input_ids, attention_mask):
        hidden_states = self.embed_tokens(input_ids)
        position_ids = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        position_ids = position_ids.unsqueeze(0)
        attention_mask = visible_keys(hidden_states, attention_mask.to(torch.bool))
        cos, sin = self.rotary_emb(position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, cos, sin, attention_mask)
        return self.norm(hidden_states)


class LlamaForCausalLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = LlamaModel()
        self.lm_head = nn.Linear(64, 128, bias=False)

    def forward(self, input_ids, attention_mask):
        return self.lm_head(self.model(input_ids, attention_mask))
