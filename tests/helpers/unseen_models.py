"""Ten small models of kinds that ``edited_models`` has not, for faults that were written before their first run."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge.model import Model


class Modulated(nn.Module):
    """A convolution between group norms, scaled and shifted by the time."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, channels), nn.GroupNorm(4, channels, eps=1e-4)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.film = nn.Linear(16, 2 * channels)

    def forward(self, x, time):
        scale, shift = self.film(F.silu(time))[:, :, None, None].chunk(2, 1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.norm2(y) * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


class Denoiser(nn.Module):
    """The noise in a picture at a time of a diffusion."""

    def __init__(self):
        super().__init__()
        self.time1, self.time2 = nn.Linear(8, 16), nn.Linear(16, 16)
        self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1)
        self.down, self.up = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.outer, self.inner = Modulated(8), Modulated(8)

    def forward(self, image, time):
        rates = torch.exp(-math.log(10000.0) * torch.arange(4) / 4)
        angle = time[:, None].float() * rates[None]
        t = self.time2(F.silu(self.time1(torch.cat([angle.sin(), angle.cos()], 1))))
        a = self.outer(self.first(image), t)
        b = self.inner(self.down(a), t)
        b = self.up(F.interpolate(b, scale_factor=2.0, mode="nearest"))
        return self.last(torch.cat([a, b], 1))


class Speech(nn.Module):
    """Frames of different lengths through GRUs; the state at the last frame that counts."""

    def __init__(self):
        super().__init__()
        self.norm, self.gru = nn.LayerNorm(6), nn.GRU(6, 8, num_layers=2, batch_first=True)
        self.conv, self.attend, self.fc = nn.Conv1d(8, 8, 3, padding=1), nn.Linear(8, 1), nn.Linear(16, 5)

    def forward(self, frames, lengths):
        steps = torch.arange(frames.shape[1])
        here = steps[None, :] < lengths[:, None]
        x = self.norm(frames).masked_fill(~here[..., None], 0.0)
        out, _ = self.gru(x)
        last = (lengths - 1).clamp(min=0)
        state = out.gather(1, last[:, None, None].expand(-1, 1, 8)).squeeze(1)
        y = F.leaky_relu(self.conv(out.transpose(1, 2)), 0.2).transpose(1, 2)
        weight = self.attend(y).masked_fill(~here[..., None], -1e4).softmax(1)
        logits = self.fc(torch.cat([state, (weight * y).sum(1)], 1))
        return logits, logits.argmax(1), here


class Molecules(nn.Module):
    """Messages along the edges of a graph: sums, means and largest."""

    def __init__(self):
        super().__init__()
        self.embed, self.message, self.update = nn.Linear(5, 8), nn.Linear(17, 8), nn.Linear(24, 8)
        self.score, self.out = nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, nodes, edges, lengths):
        x = F.elu(self.embed(nodes))
        source, target = edges[0], edges[1]
        m = torch.relu(self.message(torch.cat([x[source], x[target], lengths[:, None]], 1)))
        total = torch.zeros_like(x).index_add(0, target, m)
        degree = torch.zeros_like(x[:, 0]).scatter_add(0, target, torch.ones_like(lengths))
        most = torch.zeros_like(x).scatter_reduce(0, target[:, None].expand(-1, 8), m, "amax", include_self=True)
        mean = total / degree.clamp(min=1.0)[:, None]
        x = x + self.update(torch.cat([x, mean, most], 1))
        part = torch.softmax(self.score(x), 0)
        return self.out((part * x).sum(0)), degree.long()


class Experts(nn.Module):
    """The two best of four experts for each word."""

    def __init__(self):
        super().__init__()
        self.gate, self.norm = nn.Linear(8, 4, bias=False), nn.LayerNorm(8)
        self.inside, self.outside = nn.Parameter(torch.randn(4, 8, 8) * 0.4), nn.Parameter(torch.randn(4, 8, 8) * 0.4)
        self.bias = nn.Parameter(torch.randn(4, 8) * 0.2)

    def forward(self, x):
        y = self.norm(x)
        chances = self.gate(y).softmax(-1)
        top, which = chances.topk(2, -1)
        top = top / top.sum(-1, keepdim=True)
        share = torch.zeros_like(chances).scatter(-1, which, top)
        hidden = F.gelu(torch.einsum("btd,edh->bteh", y, self.inside) + self.bias)
        result = torch.einsum("bteh,ehd->bted", hidden, self.outside)
        load = F.one_hot(which[..., 0], 4).sum((0, 1))
        return x + (result * share[..., None]).sum(2), which, load


class Grouped(nn.Module):
    """Causal attention with fewer keys than queries, rotated, within a window."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.o, self.norm, self.qnorm = nn.Linear(16, 16, bias=False), nn.RMSNorm(16, eps=1e-6), nn.RMSNorm(4, eps=1e-6)

    def forward(self, x, cos, sin, allowed):
        b, t, _ = x.shape
        y = self.norm(x)
        q = self.qnorm(self.q(y).view(b, t, 4, 4)).transpose(1, 2)
        k, v = (f(y).view(b, t, 2, 4).transpose(1, 2) for f in (self.k, self.v))
        q, k = (a * cos + torch.cat([-a[..., 2:], a[..., :2]], -1) * sin for a in (q, k))
        k, v = (a[:, :, None].expand(b, 2, 2, t, 4).reshape(b, 4, t, 4) for a in (k, v))
        scores = torch.tanh(q @ k.transpose(-1, -2) * 0.5 / 20.0) * 20.0
        scores = scores.masked_fill(~allowed, torch.finfo(torch.float32).min)
        return x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, 16))


class Writer(nn.Module):
    """A language model that is told positions and which words are padding."""

    def __init__(self):
        super().__init__()
        self.words, self.final = nn.Embedding(50, 16, padding_idx=0), nn.RMSNorm(16, eps=1e-6)
        self.layers, self.head = nn.ModuleList(Grouped() for _ in range(2)), nn.Linear(16, 50, bias=False)
        self.mlps = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.register_buffer("rate", torch.tensor([1.0, 0.01]))

    def forward(self, tokens, positions, real):
        t = tokens.shape[1]
        angle = positions[:, None, :, None].float() * self.rate
        cos, sin = angle.cos().repeat(1, 1, 1, 2), angle.sin().repeat(1, 1, 1, 2)
        at = torch.arange(t)
        near = (at[None, :] <= at[:, None]) & (at[:, None] - at[None, :] < 6)
        allowed = near[None, None] & real[:, None, None, :]
        x = self.words(tokens) * 4.0
        for layer, mlp in zip(self.layers, self.mlps, strict=True):
            x = layer(x, cos, sin, allowed)
            x = x + torch.relu(mlp(x)) ** 2
        logits = self.head(self.final(x))
        return torch.tanh(logits / 30.0) * 30.0


class Reviews(nn.Module):
    """Windows of two and three words, a bag of all words, and what is sure enough."""

    def __init__(self):
        super().__init__()
        self.words, self.bag = nn.Embedding(40, 8, padding_idx=0), nn.EmbeddingBag(40, 8, mode="mean")
        self.two, self.three = nn.Conv1d(8, 8, 2), nn.Conv1d(8, 8, 3, padding=1)
        self.norm, self.fc1, self.fc2 = nn.BatchNorm1d(24), nn.Linear(24, 8), nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.words(tokens).transpose(1, 2)
        two, three = (F.relu(f(x)).amax(2) for f in (self.two, self.three))
        y = self.norm(torch.cat([two, three, self.bag(tokens)], 1))
        chances = self.fc2(F.hardtanh(self.fc1(y), -2.0, 2.0)).softmax(-1)
        count = (tokens != 0).sum(1)
        return chances, chances.argmax(-1), (chances.amax(-1) > 0.5) & (count > 2)


class Sounds(nn.Module):
    """A spectrogram in decibels, normalised, and two convolutions over it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.register_buffer("filters", torch.rand(9, 6))
        self.conv, self.fc = nn.Conv1d(6, 8, 3, stride=2), nn.Linear(8, 3)
        self.slope = nn.PReLU(8)

    def forward(self, wave):
        pieces = wave.unfold(1, 16, 8) * self.window
        spectrum = torch.fft.rfft(pieces)
        power = spectrum.real**2 + spectrum.imag**2
        mel = power @ self.filters
        decibel = 10.0 * torch.log10(mel.clamp(min=1e-10))
        decibel = torch.maximum(decibel, decibel.amax((1, 2), keepdim=True) - 80.0)
        y = (decibel - decibel.mean(1, keepdim=True)) / (decibel.std(1, keepdim=True, correction=0) + 1e-5)
        return self.fc(self.slope(self.conv(y.transpose(1, 2))).mean(2)), decibel


class Accounts(nn.Module):
    """Sums, ranks and rules over amounts, with whole numbers and truth values."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 10), nn.Linear(10, 2)
        self.kinds = nn.Embedding(12, 4)

    def forward(self, amounts, kinds, active):
        sums = amounts.cumsum(1)
        ordered, order = amounts.sort(stable=True, dim=1, descending=True)
        signed = torch.sign(amounts) * torch.log1p(amounts.abs())
        limited = torch.where(active[:, None], signed, signed.clamp(-1.5, 1.5))
        whole = torch.div(kinds, 5, rounding_mode="floor")
        part = self.kinds(torch.remainder(kinds, 12)).sum(1)
        x = torch.cat([limited[:, :3], torch.round(ordered[:, :3] * 4) / 4, part], 1)
        y = self.fc2(F.mish(self.fc1(x)))
        flags = (kinds & 6) | (whole << 1)
        over = (sums > 1.0).any(1) ^ active
        return y, order, flags, over, torch.trunc(sums[:, -1] * 3)


class Narrow(nn.Module):
    """Numbers held in eight bits between layers, and a middle in float16."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 6, 3), nn.Linear(6, 12), nn.Linear(12, 12).half()
        self.fc3, self.scale = nn.Linear(12, 4), nn.Parameter(torch.tensor(0.05))

    def forward(self, pixels):
        x = (pixels.float() - 127.5) / 64.0
        x = F.adaptive_avg_pool2d(F.selu(self.conv(x)), 1).flatten(1)
        x = torch.round(x / self.scale).clamp(-128, 127) * self.scale
        x = torch.sigmoid(self.fc1(x))
        x = F.relu(self.fc2(x.half())).float()
        z = self.fc3(x)
        return z, (z * 16).round().clamp(-128, 127).to(torch.int8)


class Catalog(nn.Module):
    """Items and users in tables of thousands of rows, and what was bought before."""

    def __init__(self):
        super().__init__()
        self.items, self.users = nn.Embedding(5000, 6), nn.Embedding(3000, 6)
        self.fc1, self.norm, self.fc2 = nn.Linear(13, 12), nn.LayerNorm(12), nn.Linear(12, 2)

    def forward(self, item, user, bought, hour):
        before = self.items(bought).mean(1)
        x = torch.cat([self.items(item) * self.users(user), before, torch.sin(hour / 24.0)[:, None]], 1)
        return torch.sigmoid(self.fc2(self.norm(F.relu(self.fc1(x)))))


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "denoiser": (Denoiser, {"image": "float32[batch,2,8,8]", "time": "int64[batch]"}),
    "speech": (Speech, {"frames": "float32[batch,steps,6]", "lengths": "int64[batch]"}),
    "molecules": (
        Molecules,
        {"nodes": "float32[nodes,5]", "edges": "int64[2,edges]", "lengths": "float32[edges]"},
    ),
    "experts": (Experts, {"x": "float32[batch,length,8]"}),
    "writer": (
        Writer,
        {"tokens": "int64[batch,length]", "positions": "int64[batch,length]", "real": "bool[batch,length]"},
    ),
    "reviews": (Reviews, {"tokens": "int64[batch,9]"}),
    "sounds": (Sounds, {"wave": "float32[batch,64]"}),
    "accounts": (Accounts, {"amounts": "float32[batch,5]", "kinds": "int64[batch,3]", "active": "bool[batch]"}),
    "narrow": (Narrow, {"pixels": "uint8[batch,3,6,6]"}),
    "catalog": (
        Catalog,
        {"item": "int64[batch]", "user": "int64[batch]", "bought": "int64[batch,past]", "hour": "float32[batch]"},
    ),
}


def read(name: str) -> Model:
    """One of the models, with numbers in its statistics, scales and biases that are not 0 and 1."""
    torch.manual_seed(100 + list(MODELS).index(name))
    make, inputs = MODELS[name]
    module = make().eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and key not in ("rate", "window"):
                is_variance = "var" in key
                tensor.copy_(
                    torch.rand_like(tensor) * 0.8 + 0.4 if is_variance else tensor + torch.randn_like(tensor) * 0.3
                )
    return dlbridge.load(module, inputs=inputs)
