"""Eight small models of the kinds that people convert, whose printed code is edited to see what verification finds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge.model import Model


class Residual(nn.Module):
    """Two convolutions with batch norm, and what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu6(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Pictures(nn.Module):
    """A residual network."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.blocks = nn.Sequential(*(Residual(8) for _ in range(3)))
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(8, 8)

    def forward(self, image):
        x = F.max_pool2d(F.hardswish(self.norm(self.stem(image))), 2)
        return self.fc(self.drop(self.blocks(x).mean((2, 3))))


class Attending(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8, eps=1e-6), nn.LayerNorm(8, eps=1e-6)
        self.q, self.k, self.v, self.proj = (nn.Linear(8, 8) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        b, n, _ = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, n, 2, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-1, -2) * 0.5).softmax(-1)
        x = x + self.proj((scores @ v).transpose(1, 2).reshape(b, n, 8))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Patches(nn.Module):
    """A vision transformer."""

    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 10, 8) * 0.3)
        self.blocks = nn.ModuleList(Attending() for _ in range(3))
        self.norm, self.head = nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 5)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Layer(nn.Module):
    """A decoder layer that takes and returns a cache."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(8, eps=1e-5), nn.RMSNorm(8, eps=1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x, cos, sin, mask, keys, values):
        b, t, _ = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, t, 2, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = (a * cos + torch.cat([-a[..., 2:], a[..., :2]], -1) * sin for a in (q, k))
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        scores = (q @ keys.transpose(-1, -2) / 2.0).masked_fill(~mask, float("-inf"))
        x = x + self.o((scores.softmax(-1) @ values).transpose(1, 2).reshape(b, t, 8))
        z = self.norm2(x)
        return x + self.down(F.silu(self.gate(z)) * self.up(z)), keys, values


class Decoder(nn.Module):
    """A language model with a cache."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(40, 8), nn.RMSNorm(8, eps=1e-5)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.register_buffer("rate", torch.tensor([1.0, 0.1]))

    def forward(self, tokens, keys, values):
        t, past = tokens.shape[1], keys.shape[3]
        at = torch.arange(past, past + t)
        angle = at[:, None].float() * self.rate
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        mask = torch.arange(past + t)[None, :] <= at[:, None]
        x, new = self.words(tokens), []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, cos, sin, mask, keys[i], values[i])
            new.append((k, v))
        logits = self.norm(x) @ self.words.weight.T
        return logits, torch.stack([k for k, _ in new]), torch.stack([v for _, v in new])


class Sentences(nn.Module):
    """An LSTM in both directions, and the mean of the words that count."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(30, 6), nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.score, self.fc = nn.Linear(10, 1), nn.Linear(10, 4)

    def forward(self, tokens, mask):
        out, (hidden, _) = self.lstm(self.words(tokens))
        part = self.score(out).squeeze(-1).masked_fill(mask == 0, -1e9).softmax(-1)
        pooled = (out * part[..., None]).sum(1) / (mask.sum(1, keepdim=True).float() + 1e-6)
        return torch.log_softmax(self.fc(pooled), -1), torch.tanh(hidden[-1])


class Segments(nn.Module):
    """A U-Net of two levels."""

    def __init__(self):
        super().__init__()
        self.in1, self.in2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.mid, self.group = nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.GroupNorm(2, 8)
        self.up, self.out, self.last = (
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.Conv2d(8, 4, 3, padding=1),
            nn.Conv2d(4, 2, 1),
        )
        self.instance = nn.InstanceNorm2d(4, affine=True)

    def forward(self, x):
        a = F.leaky_relu(self.instance(self.in1(x)), 0.1)
        b = F.elu(self.in2(a))
        b = b + F.silu(self.group(self.mid(b)))
        up = self.up(b) + F.interpolate(b[:, :4], scale_factor=2, mode="bilinear", align_corners=False)
        y = F.softplus(self.out(torch.cat([a, up], 1)))
        return torch.sigmoid(self.last(F.pad(y, (1, 0, 0, 1))))


class Table(nn.Module):
    """Columns of categories and of numbers, some missing."""

    def __init__(self):
        super().__init__()
        self.kinds, self.places, self.days = nn.Embedding(7, 4), nn.Embedding(60, 4), nn.Embedding(31, 2, padding_idx=0)
        self.norm, self.fc1, self.norm1 = nn.BatchNorm1d(5), nn.Linear(15, 16), nn.BatchNorm1d(16)
        self.fc2, self.fc3 = nn.Linear(16, 16), nn.Linear(16, 3)
        self.register_buffer("middle", torch.tensor([0.5, -0.2, 1.0, 3.0, 0.0]))

    def forward(self, categories, numbers):
        numbers = self.norm(torch.nan_to_num(numbers, nan=0.5).clamp(-4.0, 4.0) - self.middle)
        k, p, d = categories.unbind(1)
        x = torch.cat([self.kinds(k % 7), self.places(p % 60), self.days(d % 31), numbers], 1)
        x = self.norm1(F.relu(self.fc1(x)))
        x = x + torch.tanh(self.fc2(x))
        spread = x.var(1, keepdim=True)
        return self.fc3(x / (spread + 1e-5).sqrt()), torch.floor(numbers[:, 0] * 2 + 0.5)


class Clicks(nn.Module):
    """Embeddings of hashed ids, their products with each other, and a few dense features."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, 6, mode="sum") for _ in range(2))
        self.bottom, self.bottom2 = nn.Linear(4, 8), nn.Linear(8, 6)
        self.top, self.top2 = nn.Linear(9, 6), nn.Linear(6, 1)

    def forward(self, dense, ids):
        x = F.relu(self.bottom2(F.relu(self.bottom(torch.log1p(dense.abs())))))
        hashed = (ids * 2654435761 + 12345) % 50
        features = [x, *(table(hashed[:, i]) for i, table in enumerate(self.tables))]
        stacked = torch.stack(features, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        rows, columns = torch.tril_indices(3, 3, -1).unbind(0)
        z = torch.cat([x, products[:, rows, columns]], 1)
        return torch.sigmoid(self.top2(F.relu(self.top(z)))).squeeze(-1)


class Boxes(nn.Module):
    """Boxes, scores and classes of a detector's head, and the best of them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.box, self.kind, self.sure = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1), nn.Conv2d(8, 1, 1)
        grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"), -1).reshape(1, 16, 2)
        self.register_buffer("grid", grid)
        self.register_buffer("size", torch.tensor([10.0, 13.0]))

    def forward(self, image):
        x = F.silu(self.norm(self.conv(image)))
        box, kind, sure = (f(x).flatten(2).transpose(1, 2) for f in (self.box, self.kind, self.sure))
        centre = (torch.sigmoid(box[..., :2]) * 2 - 0.5 + self.grid) * 8
        half = torch.exp(box[..., 2:].clamp(max=4.0)) * self.size / 2
        boxes = torch.cat([centre - half, centre + half], -1).clamp(0.0, 32.0)
        scores = torch.sigmoid(sure) * kind.softmax(-1)
        best, which = scores.max(-1)
        top, order = best.topk(5, -1)
        chosen = torch.gather(boxes, 1, order[..., None].expand(-1, -1, 4))
        return chosen, top, torch.gather(which, 1, order), torch.round(boxes / 4)


CACHE = "float32[2,batch,2,0<=past,4]"
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "pictures": (Pictures, {"image": "float32[batch,3,12,12]"}),
    "patches": (Patches, {"image": "float32[batch,3,12,12]"}),
    "decoder": (Decoder, {"tokens": "int64[batch,length]", "keys": CACHE, "values": CACHE}),
    "sentences": (Sentences, {"tokens": "int64[batch,length]", "mask": "int64[batch,length]"}),
    "segments": (Segments, {"x": "float32[batch,1,8,8]"}),
    "table": (Table, {"categories": "int64[batch,3]", "numbers": "float32[batch,5]"}),
    "clicks": (Clicks, {"dense": "float32[batch,4]", "ids": "int64[batch,2,3]"}),
    "boxes": (Boxes, {"image": "float32[batch,3,8,8]"}),
}


def read(name: str) -> Model:
    """One of the models, with numbers in its statistics, scales and biases that are not 0 and 1."""
    torch.manual_seed(list(MODELS).index(name))
    make, inputs = MODELS[name]
    module = make().eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and key not in ("rate", "size", "middle"):
                is_variance = "var" in key
                tensor.copy_(
                    torch.rand_like(tensor) * 0.8 + 0.4 if is_variance else tensor + torch.randn_like(tensor) * 0.3
                )
    return dlbridge.load(module, inputs=inputs)
