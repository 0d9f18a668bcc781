"""Models whose printed source is kept in ``tests/golden``, as their authors write them in PyTorch, of few channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.architectures import ResNet18, randomized


class EncoderBlock(nn.Module):
    """A transformer block that normalizes first."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al., An Image is Worth 16x16 Words, 2020."""

    def __init__(self, image: int = 16, patch: int = 4, size: int = 16, heads: int = 2, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, size, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, size))
        self.positions = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, size))
        self.blocks = nn.Sequential(*(EncoderBlock(size, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class ResidualBlock(nn.Module):
    """Two convolutions between which the embedding of the time step is added."""

    def __init__(self, channels_in: int, channels: int, time: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(2, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time = nn.Linear(time, channels)
        self.norm2 = nn.GroupNorm(2, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels, 1) if channels != channels_in else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class SpatialAttention(nn.Module):
    """Self-attention over the places of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(x.shape))


class AttentionUNet(nn.Module):
    """Ho et al., Denoising Diffusion Probabilistic Models, 2020: a U-Net with attention at its lowest level."""

    def __init__(self, width: int = 4, time: int = 8) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, time), nn.SiLU(), nn.Linear(time, time))
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down1 = ResidualBlock(width, width, time)
        self.downsample = nn.Conv2d(width, width, 3, 2, 1)
        self.down2 = ResidualBlock(width, 2 * width, time)
        self.attention = SpatialAttention(2 * width)
        self.middle = ResidualBlock(2 * width, 2 * width, time)
        self.up1 = ResidualBlock(3 * width, width, time)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        time = self.time(step)
        skip = self.down1(self.stem(image), time)
        x = self.down2(self.downsample(skip), time)
        x = self.middle(self.attention(x), time)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.head(self.up1(torch.cat([x, skip], dim=1), time))


class CachedAttention(nn.Module):
    """Causal attention of new tokens over all tokens so far, whose keys and values are handed in and out."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.out = nn.Linear(size, size, bias=False)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query = self.split(self.query(x))
        keys = torch.cat([keys, self.split(self.key(x))], dim=2)
        values = torch.cat([values, self.split(self.value(x))], dim=2)
        places = torch.arange(keys.shape[2])
        mask = places <= places[-x.shape[1] :, None]
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(x.shape)), keys, values


class DecoderBlock(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(size, eps=1e-6), nn.RMSNorm(size, eps=1e-6)
        self.attention = CachedAttention(size, heads)
        self.gate, self.up = nn.Linear(size, 3 * size, bias=False), nn.Linear(size, 3 * size, bias=False)
        self.down = nn.Linear(3 * size, size, bias=False)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, keys, values = self.attention(self.norm1(x), keys, values)
        x = x + y
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y)), keys, values


class CachedDecoder(nn.Module):
    """A language model of two blocks that goes on from the keys and values of the tokens before."""

    def __init__(self, words: int = 30, size: int = 16, heads: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.blocks = nn.ModuleList(DecoderBlock(size, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(size, eps=1e-6)
        self.head = nn.Linear(size, words, bias=False)

    def forward(self, tokens: torch.Tensor, cache: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, kept = self.embedding(tokens), []
        for index, block in enumerate(self.blocks):
            x, keys, values = block(x, cache[2 * index], cache[2 * index + 1])
            kept += [keys, values]
        return self.head(self.norm(x)), kept


@dataclass(frozen=True)
class GoldenModel:
    """A model, and its inputs as ``dlbridge.load`` takes them: ``float32[batch,3,32,32]``."""

    make: Callable[[], nn.Module]
    inputs: dict[str, str | list[str]]

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        return randomized(self.make())


_CACHE = ["float32[batch,2,past,8]"] * 4

#: Name of the golden file -> the model.
MODELS = {
    "resnet18": GoldenModel(ResNet18, {"x": "float32[batch,3,32,32]"}),
    "vision_transformer": GoldenModel(VisionTransformer, {"image": "float32[batch,3,16,16]"}),
    "attention_unet": GoldenModel(AttentionUNet, {"image": "float32[batch,3,8,8]", "step": "float32[batch,1]"}),
    "cached_decoder": GoldenModel(CachedDecoder, {"tokens": "int64[batch,new]", "cache": _CACHE}),
}
