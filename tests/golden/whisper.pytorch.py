import torch
import torch.nn.functional as F
from torch import nn


class WhisperAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64)
        self.k_proj = nn.Linear(64, 64, bias=False)
        self.v_proj = nn.Linear(64, 64)
        self.out_proj = nn.Linear(64, 64)

    def forward(self, hidden_states):
        query_states = (self.q_proj(hidden_states) * 0.25).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k_proj(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v_proj(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        )
        return self.out_proj(attn_output.transpose(1, 2).flatten(2))


class WhisperAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64)
        self.k_proj = nn.Linear(64, 64, bias=False)
        self.v_proj = nn.Linear(64, 64)
        self.out_proj = nn.Linear(64, 64)

    def forward(self, hidden_states):
        query_states = (self.q_proj(hidden_states) * 0.25).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k_proj(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v_proj(hidden_states).unflatten(2, (4, 16)).transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, is_causal=True, scale=1.0
        )
        return self.out_proj(attn_output.transpose(1, 2).flatten(2))


class WhisperAttention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64)
        self.k_proj = nn.Linear(64, 64, bias=False)
        self.v_proj = nn.Linear(64, 64)
        self.out_proj = nn.Linear(64, 64)

    def forward(self, hidden_states, key_value_states):
        query_states = (self.q_proj(hidden_states) * 0.25).unflatten(2, (4, 16)).transpose(1, 2)
        key_states = self.k_proj(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        value_states = self.v_proj(key_value_states).unflatten(2, (4, 16)).transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        )
        return self.out_proj(attn_output.transpose(1, 2).flatten(2))


class WhisperEncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(64)
        self.self_attn = WhisperAttention()
        self.dropout = nn.Dropout(0.0)
        self.final_layer_norm = nn.LayerNorm(64)
        self.fc1 = nn.Linear(64, 96)
        self.activation_fn = nn.GELU()
        self.dropout_1 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(96, 64)
        self.dropout_2 = nn.Dropout(0.0)

    def forward(self, hidden_states):
        hidden_states_1 = self.dropout(self.self_attn(self.self_attn_layer_norm(hidden_states)))
        hidden_states = hidden_states + hidden_states_1
        x = self.fc1(self.final_layer_norm(hidden_states))
        fc2 = self.fc2(self.dropout_1(self.activation_fn(x)))
        return hidden_states + self.dropout_2(fc2)


class WhisperDecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(64)
        self.self_attn = WhisperAttention_1()
        self.dropout = nn.Dropout(0.0)
        self.encoder_attn_layer_norm = nn.LayerNorm(64)
        self.encoder_attn = WhisperAttention_2()
        self.dropout_1 = nn.Dropout(0.0)
        self.final_layer_norm = nn.LayerNorm(64)
        self.fc1 = nn.Linear(64, 96)
        self.activation_fn = nn.GELU()
        self.dropout_2 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(96, 64)
        self.dropout_3 = nn.Dropout(0.0)

    def forward(self, hidden_states, encoder_hidden_states):
        hidden_states_1 = self.dropout(self.self_attn(self.self_attn_layer_norm(hidden_states)))
        hidden_states = hidden_states + hidden_states_1
        encoder_attn_layer_norm = self.encoder_attn_layer_norm(hidden_states)
        attn_output = self.encoder_attn(encoder_attn_layer_norm, encoder_hidden_states)
        hidden_states = hidden_states + self.dropout_1(attn_output)
        x = self.fc1(self.final_layer_norm(hidden_states))
        fc2 = self.fc2(self.dropout_2(self.activation_fn(x)))
        return hidden_states + self.dropout_3(fc2)


class WhisperDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64, padding_idx=0)
        self.embed_positions = nn.Embedding(40, 64)
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.ModuleList([WhisperDecoderLayer(), WhisperDecoderLayer()])
        self.layer_norm = nn.LayerNorm(64)

    def forward(self, input_ids, encoder_hidden_states):
        inputs_embeds = self.embed_tokens(input_ids)
        position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)
        position_ids = position_ids.unsqueeze(0).repeat(inputs_embeds.shape[0], 1)
        hidden_states = inputs_embeds + self.embed_positions(position_ids)
        hidden_states = self.dropout(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, encoder_hidden_states)
        return self.layer_norm(hidden_states)


class WhisperEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(16, 64, 3, padding=1)
        self.conv2 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(30, 64)
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.Sequential(WhisperEncoderLayer(), WhisperEncoderLayer())
        self.layer_norm = nn.LayerNorm(64)
        self.register_buffer("constant", torch.arange(30, dtype=torch.int64), persistent=False)

    def forward(self, input_features):
        x = self.conv1(input_features)
        x = self.conv2(F.gelu(x))
        hidden_states = F.gelu(x).transpose(1, 2) + self.embed_positions(self.constant)
        hidden_states = self.dropout(hidden_states)
        hidden_states = self.layers(hidden_states)
        return self.layer_norm(hidden_states)


class WhisperModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = WhisperEncoder()
        self.decoder = WhisperDecoder()

    def forward(self, input_features, decoder_input_ids):
        encoder_outputs = self.encoder(input_features)
        decoder_outputs = self.decoder(decoder_input_ids, encoder_outputs)
        return encoder_outputs, decoder_outputs


class WhisperForConditionalGeneration(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = WhisperModel()
        self.proj_out = nn.Linear(64, 128, bias=False)
        self.proj_out.weight = self.model.decoder.embed_tokens.weight
        self.model.encoder.embed_positions.requires_grad_(False)

    def forward(self, input_features, decoder_input_ids):
        encoder_last_hidden_state, hidden_states = self.model(input_features, decoder_input_ids)
        logits = self.proj_out(hidden_states)
        return logits, encoder_last_hidden_state
