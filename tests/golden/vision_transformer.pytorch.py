import torch
import torch.nn.functional as F
from torch import nn


class MultiheadAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.out_proj = nn.Linear(16, 16)
        self.in_proj_weight = nn.Parameter(torch.empty((48, 16)))
        self.in_proj_bias = nn.Parameter(torch.empty((48,)))

    def forward(self, x):
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = x.chunk(3, dim=2)
        q = q.unflatten(2, (2, 8)).transpose(1, 2)
        k = k.unflatten(2, (2, 8)).transpose(1, 2)
        x = F.scaled_dot_product_attention(q, k, v.unflatten(2, (2, 8)).transpose(1, 2))
        x = x.transpose(1, 2).flatten(2)
        return self.out_proj(x)


class EncoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(16)
        self.attention = MultiheadAttention()
        self.norm2 = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 16))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.blocks = nn.Sequential(*[EncoderBlock() for _ in range(3)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)
        self.class_token = nn.Parameter(torch.empty((1, 1, 16)))
        self.positions = nn.Parameter(torch.empty((1, 17, 16)))

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.positions
        x = self.blocks(x)
        x = self.norm(x)
        x = x[:, 0]
        return self.head(x)
