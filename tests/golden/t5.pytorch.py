import math

import torch
import torch.nn.functional as F
from torch import nn


def visible_keys(x, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = x.shape[axis]
    keys = queries
    places = torch.arange(keys, device=x.device)
    own = (torch.arange(queries, device=x.device) + (keys - queries)).unsqueeze(1)
    seen = places <= own
    return seen[None, None]


def position_buckets(positions, num_buckets, max_distance, bidirectional=False):
    """The bucket of each relative position: near ones have their own, farther ones share those of their logarithm."""
    distance = positions.abs() if bidirectional else -positions.clamp(max=0)
    if bidirectional:
        num_buckets = num_buckets // 2
    exact = num_buckets // 2
    scale = (distance.to(torch.float32) / exact).log() / math.log(max_distance / exact)
    far = (scale * (num_buckets - exact)).to(positions.dtype) + exact
    buckets = torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))
    if bidirectional:
        buckets = (positions > 0).to(positions.dtype) * num_buckets + buckets
    return buckets


class T5Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, mask):
        query_states = self.q(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        context_position = torch.arange(value_states.shape[2], device=value_states.device)
        context_position = context_position.unsqueeze(1)
        memory_position = torch.arange(value_states.shape[2], device=value_states.device)
        relative_position = memory_position.unsqueeze(0) - context_position
        relative_position_bucket = position_buckets(
            relative_position, num_buckets=32, max_distance=128, bidirectional=True
        )
        values = self.relative_attention_bias(relative_position_bucket).permute(2, 0, 1)
        position_bias = values.unsqueeze(0)
        position_bias_mask = torch.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=position_bias_mask, scale=1.0
        )
        attn_output = self.o(attn_output.transpose(1, 2).flatten(2))
        return position_bias, attn_output


class T5Attention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, mask):
        query_states = self.q(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        context_position = torch.arange(value_states.shape[2], device=value_states.device)
        context_position = context_position.unsqueeze(1)
        memory_position = torch.arange(value_states.shape[2], device=value_states.device)
        relative_position = memory_position.unsqueeze(0) - context_position
        relative_buckets = position_buckets(relative_position, num_buckets=32, max_distance=128)
        position_bias = self.relative_attention_bias(relative_buckets).permute(2, 0, 1).unsqueeze(0)
        position_bias_mask = torch.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=position_bias_mask, scale=1.0
        )
        attn_output = self.o(attn_output.transpose(1, 2).flatten(2))
        return position_bias, attn_output


class T5Attention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, key_value_states, mask):
        query_states = self.q(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        position_bias = torch.zeros(
            (1, 4, query_states.shape[2], value_states.shape[2]), device=query_states.device
        )
        attention_mask = torch.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attention_mask, scale=1.0
        )
        attn_output = self.o(attn_output.transpose(1, 2).flatten(2))
        return position_bias, attn_output


class T5Attention_3(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, mask, position_bias):
        query_states = self.q(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        position_bias_mask = torch.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=position_bias_mask, scale=1.0
        )
        return self.o(attn_output.transpose(1, 2).flatten(2))


class T5Attention_4(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, hidden_states, key_value_states, mask, position_bias):
        query_states = self.q(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        attention_mask = torch.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attention_mask, scale=1.0
        )
        return self.o(attn_output.transpose(1, 2).flatten(2))


class T5DenseActDense(nn.Module):
    def __init__(self):
        super().__init__()
        self.wi = nn.Linear(64, 96, bias=False)
        self.dropout = nn.Dropout(0.1)
        self.wo = nn.Linear(96, 64, bias=False)

    def forward(self, hidden_states):
        hidden_states = self.wi(hidden_states)
        hidden_states = F.relu(hidden_states)
        hidden_states = self.dropout(hidden_states)
        return self.wo(hidden_states)


class T5LayerSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, attention_mask):
        normed_hidden_states = self.layer_norm(hidden_states)
        position_bias, attention_output = self.SelfAttention(normed_hidden_states, attention_mask)
        attention_output = hidden_states + self.dropout(attention_output)
        return position_bias, attention_output


class T5LayerSelfAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention_3()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, attention_mask, position_bias):
        normed_hidden_states = self.layer_norm(hidden_states)
        x = self.dropout(self.SelfAttention(normed_hidden_states, attention_mask, position_bias))
        return hidden_states + x


class T5LayerSelfAttention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention_1()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, attention_mask):
        normed_hidden_states = self.layer_norm(hidden_states)
        position_bias, attention_output = self.SelfAttention(normed_hidden_states, attention_mask)
        attention_output = hidden_states + self.dropout(attention_output)
        return position_bias, attention_output


class T5LayerFF(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.DenseReluDense = T5DenseActDense()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states):
        forwarded_states = self.layer_norm(hidden_states)
        forwarded_states = self.DenseReluDense(forwarded_states)
        return hidden_states + self.dropout(forwarded_states)


class T5LayerCrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.EncDecAttention = T5Attention_2()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, key_value_states, attention_mask):
        position_bias, attention_output = self.EncDecAttention(
            self.layer_norm(hidden_states), key_value_states, attention_mask
        )
        layer_output = hidden_states + self.dropout(attention_output)
        return position_bias, layer_output


class T5LayerCrossAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.EncDecAttention = T5Attention_4()
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, key_value_states, attention_mask, position_bias):
        attention_output = self.EncDecAttention(
            self.layer_norm(hidden_states), key_value_states, attention_mask, position_bias
        )
        return hidden_states + self.dropout(attention_output)


class T5Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention_2(), T5LayerCrossAttention(), T5LayerFF()])

    def forward(self, hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask):
        self_attn_position_bias, hidden_states = self.layer[0](hidden_states, attention_mask)
        cross_attn_position_bias, hidden_states = self.layer[1](
            hidden_states, encoder_hidden_states, encoder_attention_mask
        )
        hidden_states = self.layer[2](hidden_states)
        return self_attn_position_bias, cross_attn_position_bias, hidden_states


class T5Block_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList(
            [T5LayerSelfAttention_1(), T5LayerCrossAttention_1(), T5LayerFF()]
        )

    def forward(
        self,
        hidden_states,
        attention_mask,
        position_bias,
        encoder_hidden_states,
        encoder_attention_mask,
        encoder_decoder_position_bias,
    ):
        hidden_states = self.layer[0](hidden_states, attention_mask, position_bias)
        hidden_states = self.layer[1](
            hidden_states,
            encoder_hidden_states,
            encoder_attention_mask,
            encoder_decoder_position_bias,
        )
        return self.layer[2](hidden_states)


class T5Block_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention(), T5LayerFF()])

    def forward(self, hidden_states, attention_mask):
        self_attn_position_bias, hidden_states = self.layer[0](hidden_states, attention_mask)
        hidden_states = self.layer[1](hidden_states)
        return self_attn_position_bias, hidden_states


class T5Block_3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention_1(), T5LayerFF()])

    def forward(self, hidden_states, attention_mask, position_bias):
        hidden_states = self.layer[0](hidden_states, attention_mask, position_bias)
        return self.layer[1](hidden_states)


class T5Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64)
        self.dropout = nn.Dropout(0.1)
        self.block = nn.ModuleList([T5Block(), T5Block_1(), T5Block_1()])
        self.final_layer_norm = nn.RMSNorm(64, eps=1e-06)

    def forward(self, input_ids, encoder_attention_mask, encoder_hidden_states):
        inputs_embeds = self.embed_tokens(input_ids)
        attention_mask = visible_keys(inputs_embeds).expand(inputs_embeds.shape[0], -1, -1, -1)
        attention_mask_1 = encoder_attention_mask.to(torch.bool).unsqueeze(1).unsqueeze(2)
        hidden_states = self.dropout(inputs_embeds)
        self_attention_position_bias, cross_attention_position_bias, hidden_states = self.block[0](
            hidden_states, attention_mask, encoder_hidden_states, attention_mask_1
        )
        for layer in self.block[1:]:
            hidden_states = layer(
                hidden_states,
                attention_mask,
                self_attention_position_bias,
                encoder_hidden_states,
                attention_mask_1,
                cross_attention_position_bias,
            )
        hidden_states = self.final_layer_norm(hidden_states)
        return self.dropout(hidden_states)


class T5Stack_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64)
        self.dropout = nn.Dropout(0.1)
        self.block = nn.ModuleList([T5Block_2(), T5Block_3(), T5Block_3()])
        self.final_layer_norm = nn.RMSNorm(64, eps=1e-06)

    def forward(self, input_ids, attention_mask):
        inputs_embeds = self.embed_tokens(input_ids)
        attention_mask = attention_mask.to(torch.bool).unsqueeze(1).unsqueeze(2)
        hidden_states = self.dropout(inputs_embeds)
        self_attention_position_bias, hidden_states = self.block[0](hidden_states, attention_mask)
        for layer in self.block[1:]:
            hidden_states = layer(hidden_states, attention_mask, self_attention_position_bias)
        hidden_states = self.final_layer_norm(hidden_states)
        return self.dropout(hidden_states)


class T5ForConditionalGeneration(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = T5Stack_1()
        self.decoder = T5Stack()
        self.lm_head = nn.Linear(64, 128, bias=False)
        self.shared = self.encoder.embed_tokens
        self.decoder.embed_tokens.weight = self.encoder.embed_tokens.weight
        self.lm_head.weight = self.encoder.embed_tokens.weight

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        encoder_last_hidden_state = self.encoder(input_ids, attention_mask)
        sequence_output = self.decoder(decoder_input_ids, attention_mask, encoder_last_hidden_state)
        sequence_output = sequence_output * 0.125
        logits = self.lm_head(sequence_output)
        return logits, encoder_last_hidden_state
