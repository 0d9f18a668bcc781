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

    def forward(self, x):
        out = self.q_proj(x)
        query_states = out * 0.25
        query_states = query_states.reshape(query_states.shape[0], 30, 4, 16)
        query_states = query_states.transpose(1, 2)
        out = self.k_proj(x)
        key_states = out.reshape(out.shape[0], 30, 4, 16)
        key_states = key_states.transpose(1, 2)
        x = self.v_proj(x)
        value_states = x.reshape(x.shape[0], 30, 4, 16)
        value_states = value_states.transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2)
        attn_output = attn_output.flatten(2)
        return self.out_proj(attn_output)


class WhisperAttention_1(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64)
        self.k_proj = nn.Linear(64, 64, bias=False)
        self.v_proj = nn.Linear(64, 64)
        self.out_proj = nn.Linear(64, 64)

    def forward(self, x):
        out = self.q_proj(x)
        query_states = out * 0.25
        query_states = query_states.reshape(query_states.shape[0], query_states.shape[1], 4, 16)
        query_states = query_states.transpose(1, 2)
        out = self.k_proj(x)
        key_states = out.reshape(out.shape[0], out.shape[1], 4, 16)
        key_states = key_states.transpose(1, 2)
        x = self.v_proj(x)
        value_states = x.reshape(x.shape[0], x.shape[1], 4, 16)
        value_states = value_states.transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, is_causal=True, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2)
        attn_output = attn_output.flatten(2)
        return self.out_proj(attn_output)


class WhisperAttention_2(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(64, 64)
        self.k_proj = nn.Linear(64, 64, bias=False)
        self.v_proj = nn.Linear(64, 64)
        self.out_proj = nn.Linear(64, 64)

    def forward(self, x, hidden_states):
        x = self.q_proj(x)
        query_states = x * 0.25
        query_states = query_states.reshape(query_states.shape[0], query_states.shape[1], 4, 16)
        query_states = query_states.transpose(1, 2)
        x = self.k_proj(hidden_states)
        key_states = x.reshape(x.shape[0], 30, 4, 16)
        key_states = key_states.transpose(1, 2)
        x = self.v_proj(hidden_states)
        value_states = x.reshape(x.shape[0], 30, 4, 16)
        value_states = value_states.transpose(1, 2)
        attn_output = F.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        )
        attn_output = attn_output.transpose(1, 2)
        attn_output = attn_output.flatten(2)
        return self.out_proj(attn_output)


class GELUActivation(nn.Module):
    def forward(self, x):
        return F.gelu(x)


class WhisperEncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(64)
        self.self_attn = WhisperAttention()
        self.dropout = nn.Dropout(0.0)
        self.final_layer_norm = nn.LayerNorm(64)
        self.fc1 = nn.Linear(64, 96)
        self.activation_fn = GELUActivation()
        self.dropout_1 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(96, 64)
        self.dropout_2 = nn.Dropout(0.0)

    def forward(self, x):
        hidden_states = self.self_attn_layer_norm(x)
        attn_output = self.self_attn(hidden_states)
        hidden_states = self.dropout(attn_output)
        hidden_states = x + hidden_states
        hidden_states_1 = self.final_layer_norm(hidden_states)
        hidden_states_1 = self.fc1(hidden_states_1)
        x = self.activation_fn(hidden_states_1)
        hidden_states_1 = self.dropout_1(x)
        hidden_states_1 = self.fc2(hidden_states_1)
        hidden_states_1 = self.dropout_2(hidden_states_1)
        return hidden_states + hidden_states_1


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
        self.activation_fn = GELUActivation()
        self.dropout_2 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(96, 64)
        self.dropout_3 = nn.Dropout(0.0)

    def forward(self, x, hidden_states):
        hidden_states_1 = self.self_attn_layer_norm(x)
        attn_output = self.self_attn(hidden_states_1)
        hidden_states_1 = self.dropout(attn_output)
        hidden_states_1 = x + hidden_states_1
        hidden_states_2 = self.encoder_attn_layer_norm(hidden_states_1)
        attn_output = self.encoder_attn(hidden_states_2, hidden_states)
        hidden_states = self.dropout_1(attn_output)
        hidden_states = hidden_states_1 + hidden_states
        hidden_states_1 = self.final_layer_norm(hidden_states)
        hidden_states_1 = self.fc1(hidden_states_1)
        x = self.activation_fn(hidden_states_1)
        hidden_states_1 = self.dropout_2(x)
        hidden_states_1 = self.fc2(hidden_states_1)
        hidden_states_1 = self.dropout_3(hidden_states_1)
        return hidden_states + hidden_states_1


class WhisperDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 64, padding_idx=0)
        self.embed_positions = nn.Embedding(40, 64)
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.ModuleList([WhisperDecoderLayer(), WhisperDecoderLayer()])
        self.layer_norm = nn.LayerNorm(64)

    def forward(self, decoder_input_ids, hidden_states):
        embed_tokens = self.embed_tokens(decoder_input_ids)
        position_ids = torch.arange(embed_tokens.shape[1], device=embed_tokens.device)
        position_ids = position_ids.unsqueeze(0)
        position_ids = position_ids.repeat(embed_tokens.shape[0], 1)
        x = self.embed_positions(position_ids)
        hidden_states_1 = embed_tokens + x
        hidden_states_1 = self.dropout(hidden_states_1)
        hidden_states_1 = self.layers[0](hidden_states_1, hidden_states)
        hidden_states = self.layers[1](hidden_states_1, hidden_states)
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
        self.register_buffer(
            "constant",
            torch.tensor(
                [
                    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                    22, 23, 24, 25, 26, 27, 28, 29,
                ],
                dtype=torch.int64,
            ),
            persistent=False,
        )

    def forward(self, x):
        x = self.conv1(x)
        inputs_embeds = F.gelu(x)
        x = self.conv2(inputs_embeds)
        inputs_embeds = F.gelu(x)
        inputs_embeds = inputs_embeds.transpose(1, 2)
        x = self.embed_positions(self.constant)
        hidden_states = inputs_embeds + x
        hidden_states = self.dropout(hidden_states)
        hidden_states = self.layers(hidden_states)
        return self.layer_norm(hidden_states)


class WhisperModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = WhisperEncoder()
        self.decoder = WhisperDecoder()

    def forward(self, input_features, decoder_input_ids):
        hidden_states = self.encoder(input_features)
        hidden_states_1 = self.decoder(decoder_input_ids, hidden_states)
        return hidden_states, hidden_states_1


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
