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


class T5Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, x, attention_mask):
        query_states = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(x).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(x).unflatten(2, (4, 16)).transpose(1, 2)
        x = torch.arange(value_states.shape[2], device=value_states.device).unsqueeze(1)
        x = torch.arange(value_states.shape[2], device=value_states.device).unsqueeze(0) - x
        out = x > 0
        out = out.to(torch.int64)
        out = out * 16
        x = torch.abs(x)
        less = x < 8
        cast = x.to(torch.float32)
        cast = cast / 8.0
        cast = torch.log(cast)
        cast = cast / 2.7725887
        cast = cast * 8.0
        cast = cast.to(torch.int64)
        cast = cast + 8
        constantofshape = torch.full(
            (value_states.shape[2], value_states.shape[2]),
            15,
            dtype=torch.int64,
            device=value_states.device,
        )
        cast = torch.minimum(cast, constantofshape)
        x = torch.where(less, x, cast)
        x = out + x
        position_bias = self.relative_attention_bias(x).permute(2, 0, 1).unsqueeze(0)
        attn_output = torch.where(attention_mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attn_output, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2).flatten(2)
        attn_output = self.o(attn_output)
        return position_bias, attn_output


class T5Attention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, x, attention_mask):
        query_states = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(x).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(x).unflatten(2, (4, 16)).transpose(1, 2)
        x = torch.arange(value_states.shape[2], device=value_states.device).unsqueeze(1)
        x = torch.arange(value_states.shape[2], device=value_states.device).unsqueeze(0) - x
        constantofshape = torch.zeros(
            (value_states.shape[2], value_states.shape[2]),
            dtype=torch.int64,
            device=value_states.device,
        )
        x = torch.minimum(x, constantofshape)
        x = -x
        less = x < 16
        out = x.to(torch.float32)
        out = out / 16.0
        out = torch.log(out)
        out = out / 2.0794415
        out = out * 16.0
        out = out.to(torch.int64)
        out = out + 16
        constantofshape = torch.full(
            (value_states.shape[2], value_states.shape[2]),
            31,
            dtype=torch.int64,
            device=value_states.device,
        )
        out = torch.minimum(out, constantofshape)
        x = torch.where(less, x, out)
        position_bias = self.relative_attention_bias(x).permute(2, 0, 1).unsqueeze(0)
        attn_output = torch.where(attention_mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attn_output, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2).flatten(2)
        attn_output = self.o(attn_output)
        return position_bias, attn_output


class T5Attention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, x, encoder_last_hidden_state, encoder_extended_attention_mask):
        query_states = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(encoder_last_hidden_state).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(encoder_last_hidden_state).unflatten(2, (4, 16)).transpose(1, 2)
        position_bias = torch.zeros(
            (1, 4, query_states.shape[2], value_states.shape[2]), device=query_states.device
        )
        attn_output = torch.where(
            encoder_extended_attention_mask, position_bias, -3.4028234663852886e+38
        )
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attn_output, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2).flatten(2)
        attn_output = self.o(attn_output)
        return position_bias, attn_output


class T5Attention_3(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, x, attention_mask, position_bias):
        query_states = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(x).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(x).unflatten(2, (4, 16)).transpose(1, 2)
        attn_output = torch.where(attention_mask, position_bias, -3.4028234663852886e+38)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attn_output, scale=1.0
        )
        return self.o(attn_output.transpose(1, 2).flatten(2))


class T5Attention_4(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(64, 64, bias=False)
        self.k = nn.Linear(64, 64, bias=False)
        self.v = nn.Linear(64, 64, bias=False)
        self.o = nn.Linear(64, 64, bias=False)

    def forward(self, x, encoder_last_hidden_state, encoder_extended_attention_mask, position_bias):
        query_states = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k(encoder_last_hidden_state).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v(encoder_last_hidden_state).unflatten(2, (4, 16)).transpose(1, 2)
        attn_output = torch.where(
            encoder_extended_attention_mask, position_bias, -3.4028234663852886e+38
        )
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, attn_mask=attn_output, scale=1.0
        )
        return self.o(attn_output.transpose(1, 2).flatten(2))


class T5DenseActDense(nn.Module):
    def __init__(self):
        super().__init__()
        self.wi = nn.Linear(64, 96, bias=False)
        self.dropout = nn.Dropout(0.1)
        self.wo = nn.Linear(96, 64, bias=False)

    def forward(self, x):
        hidden_states = self.wi(x)
        hidden_states = F.relu(hidden_states)
        hidden_states = self.dropout(hidden_states)
        return self.wo(hidden_states)


class T5LayerSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, attention_mask):
        position_bias, attn_output = self.SelfAttention(self.layer_norm(x), attention_mask)
        attention_output = x + self.dropout(attn_output)
        return position_bias, attention_output


class T5LayerSelfAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention_3()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, attention_mask, position_bias):
        attn_output = self.SelfAttention(self.layer_norm(x), attention_mask, position_bias)
        return x + self.dropout(attn_output)


class T5LayerSelfAttention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.SelfAttention = T5Attention_1()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, attention_mask):
        position_bias, attn_output = self.SelfAttention(self.layer_norm(x), attention_mask)
        attention_output = x + self.dropout(attn_output)
        return position_bias, attention_output


class T5LayerFF(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.DenseReluDense = T5DenseActDense()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        out = self.layer_norm(x)
        return x + self.dropout(self.DenseReluDense(out))


class T5LayerCrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.EncDecAttention = T5Attention_2()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, encoder_last_hidden_state, encoder_extended_attention_mask):
        layer_norm = self.layer_norm(x)
        position_bias, attn_output = self.EncDecAttention(
            layer_norm, encoder_last_hidden_state, encoder_extended_attention_mask
        )
        layer_output = x + self.dropout(attn_output)
        return position_bias, layer_output


class T5LayerCrossAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm = nn.RMSNorm(64, eps=1e-06)
        self.EncDecAttention = T5Attention_4()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, encoder_last_hidden_state, encoder_extended_attention_mask, position_bias):
        layer_norm = self.layer_norm(x)
        attn_output = self.EncDecAttention(
            layer_norm, encoder_last_hidden_state, encoder_extended_attention_mask, position_bias
        )
        return x + self.dropout(attn_output)


class T5Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention_2(), T5LayerCrossAttention(), T5LayerFF()])

    def forward(
        self, x, attention_mask, encoder_last_hidden_state, encoder_extended_attention_mask
    ):
        position_bias, attention_output = self.layer[0](x, attention_mask)
        position_bias_1, layer_output = self.layer[1](
            attention_output, encoder_last_hidden_state, encoder_extended_attention_mask
        )
        hidden_states = self.layer[2](layer_output)
        return position_bias, position_bias_1, hidden_states


class T5Block_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList(
            [T5LayerSelfAttention_1(), T5LayerCrossAttention_1(), T5LayerFF()]
        )

    def forward(
        self,
        x,
        attention_mask,
        position_bias,
        encoder_last_hidden_state,
        encoder_extended_attention_mask,
        position_bias_1,
    ):
        attention_output = self.layer[0](x, attention_mask, position_bias)
        layer_output = self.layer[1](
            attention_output,
            encoder_last_hidden_state,
            encoder_extended_attention_mask,
            position_bias_1,
        )
        return self.layer[2](layer_output)


class T5Block_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention(), T5LayerFF()])

    def forward(self, x, attention_mask):
        position_bias, attention_output = self.layer[0](x, attention_mask)
        hidden_states = self.layer[1](attention_output)
        return position_bias, hidden_states


class T5Block_3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([T5LayerSelfAttention_1(), T5LayerFF()])

    def forward(self, x, attention_mask, position_bias):
        return self.layer[1](self.layer[0](x, attention_mask, position_bias))


class T5Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64)
        self.dropout = nn.Dropout(0.1)
        self.block = nn.ModuleList([T5Block(), T5Block_1(), T5Block_1()])
        self.final_layer_norm = nn.RMSNorm(64, eps=1e-06)

    def forward(self, decoder_input_ids, attention_mask, encoder):
        embed_tokens = self.embed_tokens(decoder_input_ids)
        attention_mask_1 = visible_keys(embed_tokens).expand(embed_tokens.shape[0], -1, -1, -1)
        encoder_extended_attention_mask = attention_mask.to(torch.bool).unsqueeze(1).unsqueeze(2)
        hidden_states = self.dropout(embed_tokens)
        position_bias, position_bias_1, hidden_states = self.block[0](
            hidden_states, attention_mask_1, encoder, encoder_extended_attention_mask
        )
        for layer in self.block[1:]:
            hidden_states = layer(
                hidden_states,
                attention_mask_1,
                position_bias,
                encoder,
                encoder_extended_attention_mask,
                position_bias_1,
            )
        x = self.final_layer_norm(hidden_states)
        return self.dropout(x)


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
        position_bias, hidden_states = self.block[0](hidden_states, attention_mask)
        for layer in self.block[1:]:
            hidden_states = layer(hidden_states, attention_mask, position_bias)
        x = self.final_layer_norm(hidden_states)
        return self.dropout(x)


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
        x = self.decoder(decoder_input_ids, attention_mask, encoder_last_hidden_state)
        logits = self.lm_head(x * 0.125)
        return logits, encoder_last_hidden_state
