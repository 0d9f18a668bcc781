"""Ten small models of different kinds, into which faults are planted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge.model import Model


class Images(nn.Module):
    """Convolutions, batch norm, pooling, a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.down, self.fc = nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=False), nn.Linear(6, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(F.avg_pool2d(F.leaky_relu(self.down(x), 0.1), 2, ceil_mode=True).mean((2, 3)))


class Patches(nn.Module):
    """A vision transformer of one block."""

    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8) * 0.3)
        self.norm1, self.norm2, self.head = nn.LayerNorm(8), nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


class Sequence(nn.Module):
    """Words through an LSTM of two layers."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 5, num_layers=2, batch_first=True)
        self.fc = nn.Linear(5, 4)

    def forward(self, tokens):
        out, (hidden, cell) = self.lstm(self.words(tokens))
        return F.log_softmax(self.fc(out), -1), torch.tanh(hidden[-1] + cell[0])


class Signal(nn.Module):
    """A GRU in both directions over a signal."""

    def __init__(self):
        super().__init__()
        self.conv, self.gru = nn.Conv1d(2, 6, 3, padding=2, dilation=2), nn.GRU(6, 4, bidirectional=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        y, _ = self.gru(F.softplus(self.conv(x)).permute(2, 0, 1))
        return self.out(y).squeeze(-1).transpose(0, 1)


class Words(nn.Module):
    """Attention with a mask over embeddings."""

    def __init__(self):
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(20, 8), nn.Embedding(6, 8), nn.LayerNorm(8, eps=1e-12)
        self.q, self.k, self.v, self.fc = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, tokens, mask):
        x = self.norm(self.words(tokens) + self.places(torch.arange(6)))
        q, k, v = (f(x).view(-1, 6, 2, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / 2.0 + (1.0 - mask[:, None, None, :]) * -1e4
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 6, 8)
        return torch.sigmoid(self.fc(x)) * mask[:, :, None]


class Segments(nn.Module):
    """A U-Net of one level."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(8, 2, 1)
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x):
        a = F.elu(self.down(x))
        b = F.silu(self.norm(self.deep(a)))
        y = self.up(b) + F.interpolate(b[:, :4], scale_factor=2, mode="bilinear", align_corners=False)
        return torch.tanh(self.last(torch.cat([a, y], 1)))


class Boxes(nn.Module):
    """Coordinates of hundreds beside scores below one, in two outputs and in one."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.box, self.score = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        y = F.hardswish(self.norm(self.conv(x)))
        box = self.box(y).sigmoid().flatten(2).transpose(1, 2) * 640
        score = self.score(y).sigmoid().flatten(2).transpose(1, 2)
        return box, score, torch.cat([box, score], -1)


class Choices(nn.Module):
    """Integers come out: the best class, the best three, how many are above a half."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 12), nn.Linear(12, 10)

    def forward(self, x):
        y = self.fc2(F.relu(self.fc1(x)) ** 2)
        best, order = y.topk(3, -1)
        return y.argmax(-1), order, best, (y > 0.5).sum(-1)


class Mobile(nn.Module):
    """Depthwise convolutions, squeeze and excitation, group norm."""

    def __init__(self):
        super().__init__()
        self.expand, self.depth = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.fc1, self.fc2 = nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.project, self.slope = nn.Conv2d(8, 4, 1), nn.PReLU(8)

    def forward(self, x):
        y = self.slope(self.norm(self.depth(F.relu6(self.expand(x)))))
        gate = F.hardsigmoid(self.fc2(F.relu(self.fc1(y.mean((2, 3), keepdim=True)))))
        return x + F.pad(self.project(y * gate), (1, 1, 0, 0))[:, :, :, 1:-1].clamp(-1.5, 2.0)


class Decoder(nn.Module):
    """RMS norm, rotary positions, causal attention, a gated MLP."""

    def __init__(self):
        super().__init__()
        self.words, self.norm, self.norm2 = nn.Embedding(16, 8), nn.RMSNorm(8, eps=1e-5), nn.RMSNorm(8, eps=1e-5)
        self.qkv, self.gate, self.up, self.down = nn.Linear(8, 24), nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)
        angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1])
        self.register_buffer("cos", angle.cos().repeat(1, 2))
        self.register_buffer("sin", angle.sin().repeat(1, 2))

    def forward(self, tokens):
        x = self.words(tokens)
        q, k, v = self.qkv(self.norm(x)).view(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k = (t * self.cos + torch.cat([-t[..., 2:], t[..., :2]], -1) * self.sin for t in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(-1, 5, 8)
        z = self.norm2(x + y)
        return (x + y + self.down(F.silu(self.gate(z)) * self.up(z))) @ self.words.weight.T


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "images": (Images, {"x": "float32[batch,3,8,8]"}),
    "patches": (Patches, {"x": "float32[batch,3,8,8]"}),
    "sequence": (Sequence, {"tokens": "int64[batch,7]"}),
    "signal": (Signal, {"x": "float32[batch,2,9]"}),
    "words": (Words, {"tokens": "int64[batch,6]", "mask": "float32[batch,6]"}),
    "segments": (Segments, {"x": "float32[batch,1,8,8]"}),
    "boxes": (Boxes, {"x": "float32[batch,3,9,9]"}),
    "choices": (Choices, {"x": "float32[batch,6]"}),
    "mobile": (Mobile, {"x": "float32[batch,4,6,6]"}),
    "decoder": (Decoder, {"tokens": "int64[batch,5]"}),
}


def read(name: str) -> Model:
    """One of the models, with numbers in its statistics, scales and biases that are not 0 and 1."""
    torch.manual_seed(list(MODELS).index(name))
    make, inputs = MODELS[name]
    module = make().eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and (tensor.ndim == 1 or "running" in key):
                tensor.copy_(
                    torch.rand_like(tensor) * 0.8 + 0.4 if "var" in key else tensor + torch.randn_like(tensor) * 0.3
                )
    return dlbridge.load(module, inputs=inputs)
