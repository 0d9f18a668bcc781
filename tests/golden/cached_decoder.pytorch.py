import torch
import torch.nn.functional as F
from torch import nn


class CachedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(16, 16, bias=False)
        self.key = nn.Linear(16, 16, bias=False)
        self.value = nn.Linear(16, 16, bias=False)
        self.out = nn.Linear(16, 16, bias=False)

    def forward(self, x, keys, values):
        query = self.query(x).unflatten(2, (2, 8)).transpose(1, 2)
        keys = torch.cat([keys, self.key(x).unflatten(2, (2, 8)).transpose(1, 2)], dim=2)
        values_1 = self.value(x).unflatten(2, (2, 8)).transpose(1, 2)
        values = torch.cat([values, values_1], dim=2)
        places = torch.arange(values.shape[2], device=values.device)
        mask = places[-values_1.shape[2]:]
        mask = places <= mask.unsqueeze(1)
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).transpose(1, 2)
        x = self.out(y.flatten(2))
        return keys, values, x


class DecoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.RMSNorm(16, eps=1e-06)
        self.attention = CachedAttention()
        self.norm2 = nn.RMSNorm(16, eps=1e-06)
        self.gate = nn.Linear(16, 48, bias=False)
        self.up = nn.Linear(16, 48, bias=False)
        self.down = nn.Linear(48, 16, bias=False)

    def forward(self, x, keys, values):
        keys, values, y = self.attention(self.norm1(x), keys, values)
        x = x + y
        y = self.norm2(x)
        out = self.gate(y)
        out = F.silu(out)
        out = out * self.up(y)
        x = x + self.down(out)
        return keys, values, x


class CachedDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.blocks = nn.ModuleList([DecoderBlock(), DecoderBlock()])
        self.norm = nn.RMSNorm(16, eps=1e-06)
        self.head = nn.Linear(16, 30, bias=False)

    def forward(self, tokens, cache_0, cache_1, cache_2, cache_3):
        x = self.embedding(tokens)
        output_1_0, output_1_1, x = self.blocks[0](x, cache_0, cache_1)
        output_1_2, output_1_3, x = self.blocks[1](x, cache_2, cache_3)
        x = self.norm(x)
        x = self.head(x)
        return x, output_1_0, output_1_1, output_1_2, output_1_3
