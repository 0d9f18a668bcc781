import torch
import torch.nn.functional as F
from torch import nn


def attention(q, k, v, bias, groups, softcap):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = torch.matmul(q * root, k.transpose(-1, -2) * root)
    scores = softcap * torch.tanh(scores / softcap)
    scores = bias + scores
    return torch.matmul(masked_softmax(scores), v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = torch.eq(scores.amax(-1, keepdim=True), float("-inf"))
    return torch.where(hidden, 0.0, torch.where(hidden, 0.0, scores).softmax(-1))


def visible_keys(x, padding, window=None, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = x.shape[axis]
    keys = padding.shape[1]
    places = torch.arange(keys, device=x.device)
    own = (torch.arange(queries, device=x.device) + (keys - queries)).unsqueeze(1)
    seen = places <= own
    if window is not None:  # the last ones alone
        seen = torch.logical_and(seen, places > own - window)
    return torch.logical_and(seen, padding[:, None, None])


def rotate_halves(x, cos, sin):
    """Rotary embedding: turns pairs of features, one from each half of x, by angles of these cosines and sines."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Gemma2TextScaledWordEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty((128, 64)))

    def forward(self, input_ids):
        return F.embedding(input_ids, self.weight, padding_idx=0) * 8.0


class Gemma2RotaryEmbedding(nn.Module):
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


class Gemma2RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rmsnormalization = nn.RMSNorm(64, eps=1e-06, elementwise_affine=False)
        self.weight = nn.Parameter(torch.empty((64,)))

    def forward(self, x):
        return self.rmsnormalization(x) * (self.weight + 1.0)


class Gemma2Attention(nn.Module):
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
        attn_output = attention(
            query_states, key_states, value_states, bias=attention_mask, groups=2, softcap=50.0
        )
        return self.o_proj(attn_output.transpose(1, 2).flatten(2))


class Gemma2MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(64, 96, bias=False)
        self.act_fn = nn.GELU(approximate="tanh")
        self.up_proj = nn.Linear(64, 96, bias=False)
        self.down_proj = nn.Linear(96, 64, bias=False)

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Gemma2DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = Gemma2RMSNorm()
        self.self_attn = Gemma2Attention()
        self.post_attention_layernorm = Gemma2RMSNorm()
        self.pre_feedforward_layernorm = Gemma2RMSNorm()
        self.mlp = Gemma2MLP()
        self.post_feedforward_layernorm = Gemma2RMSNorm()

    def forward(self, hidden_states, cos, sin, attention_mask):
        attn_output = self.self_attn(self.input_layernorm(hidden_states), cos, sin, attention_mask)
        hidden_states = hidden_states + self.post_attention_layernorm(attn_output)
        down_proj = self.mlp(self.pre_feedforward_layernorm(hidden_states))
        return hidden_states + self.post_feedforward_layernorm(down_proj)


class Gemma2Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = Gemma2TextScaledWordEmbedding()
        self.rotary_emb = Gemma2RotaryEmbedding()
        self.layers = nn.ModuleList([Gemma2DecoderLayer() for _ in range(3)])
        self.norm = Gemma2RMSNorm()
        self.register_buffer("constant", torch.tensor(0.0, dtype=torch.float32), persistent=False)

    def forward(self, input_ids, attention_mask):
        inputs_embeds = self.embed_tokens(input_ids)
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        attention_mask_1 = attention_mask.to(torch.bool)
        attention_mask_2 = visible_keys(input_ids, attention_mask_1)
        causal_mask = torch.where(attention_mask_2, self.constant, -3.4028234663852886e+38)
        attention_mask = visible_keys(attention_mask_1, attention_mask.to(torch.bool), window=4)
        causal_mask_1 = torch.where(attention_mask, self.constant, -3.4028234663852886e+38)
        cos, sin = self.rotary_emb(position_ids)
        hidden_states = self.layers[0](inputs_embeds, cos, sin, causal_mask_1)
        hidden_states = self.layers[1](hidden_states, cos, sin, causal_mask)
        hidden_states = self.layers[2](hidden_states, cos, sin, causal_mask_1)
        return self.norm(hidden_states)


class Gemma2ForCausalLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Gemma2Model()
        self.lm_head = nn.Linear(64, 128, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, input_ids, attention_mask):
        return torch.tanh(self.lm_head(self.model(input_ids, attention_mask)) / 30.0) * 30.0
