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

    def forward(self, x, cache_0, cache_1):
        out = self.query(x)
        out = out.reshape(out.shape[0], out.shape[1], 2, 8)
        out = out.transpose(1, 2)
        key = self.key(x)
        key = key.reshape(key.shape[0], key.shape[1], 2, 8)
        key = key.transpose(1, 2)
        cache_0 = torch.cat([cache_0, key], dim=2)
        x = self.value(x)
        x = x.reshape(x.shape[0], x.shape[1], 2, 8)
        x = x.transpose(1, 2)
        cache_1 = torch.cat([cache_1, x], dim=2)
        range_ = torch.arange(cache_1.shape[2], device=cache_1.device)
        x = range_[-1 * x.shape[2]:]
        x = x.unsqueeze(1)
        x = range_ <= x
        x = F.scaled_dot_product_attention(out, cache_0, cache_1, attn_mask=x)
        x = x.transpose(1, 2)
        x = x.flatten(2)
        x = self.out(x)
        return cache_0, cache_1, x


class DecoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.RMSNorm(16, eps=1e-06)
        self.attention = CachedAttention()
        self.norm2 = nn.RMSNorm(16, eps=1e-06)
        self.gate = nn.Linear(16, 48, bias=False)
        self.up = nn.Linear(16, 48, bias=False)
        self.down = nn.Linear(48, 16, bias=False)

    def forward(self, x, cache_0, cache_1):
        norm = self.norm1(x)
        norm, cache_0, cache_1 = self.attention(norm, cache_0, cache_1)
        x = x + cache_1
        norm2 = self.norm2(x)
        out = self.gate(norm2)
        out = F.silu(out)
        norm2 = self.up(norm2)
        out = out * norm2
        out = self.down(out)
        x = x + out
        return norm, cache_0, x


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
