"""Well-known architectures as their authors write them in PyTorch, small enough for tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, channels_in, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """He et al., Deep Residual Learning for Image Recognition, 2015; ``width`` 64 is the paper's."""

    def __init__(self, width=8, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, before = [], width
        for index in range(4):
            channels = width << index
            stages.append(nn.Sequential(BasicBlock(before, channels, 1 + (index > 0)), BasicBlock(channels, channels)))
            before = channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features):
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, depth, channels, growth):
        super().__init__()
        for index in range(depth):
            self.add_module(f"denselayer{index + 1}", DenseLayer(channels + index * growth, growth))

    def forward(self, x):
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Huang et al., Densely Connected Convolutional Networks, 2016; the paper's has four blocks and a growth of 32."""

    def __init__(self, depths=(5, 7), growth=4, classes=10):
        super().__init__()
        channels = 2 * growth
        self.conv0 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for depth in depths:
            self.blocks.append(DenseBlock(depth, channels, growth))
            channels += depth * growth
            self.transitions.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 8, 1)))
            channels = 8
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.conv0(x)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            x = F.avg_pool2d(transition(block(x)), 2)
        return self.classifier(x.mean((2, 3)))


class SelfAttention(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, mask):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = self.dropout(F.softmax(scores + mask, dim=-1))
        return (weights @ v).transpose(1, 2).reshape(x.shape)


class BertLayer(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.attention = SelfAttention(size, heads)
        self.output = nn.Linear(size, size)
        self.norm1 = nn.LayerNorm(size, eps=1e-12)
        self.intermediate = nn.Linear(size, 4 * size)
        self.down = nn.Linear(4 * size, size)
        self.norm2 = nn.LayerNorm(size, eps=1e-12)

    def forward(self, x, mask):
        x = self.norm1(x + self.output(self.attention(x, mask)))
        return self.norm2(x + self.down(F.gelu(self.intermediate(x))))


class Bert(nn.Module):
    """Devlin et al., BERT, 2018: the encoder."""

    def __init__(self, words=50, size=32, heads=4, depth=3, longest=64):
        super().__init__()
        self.word = nn.Embedding(words, size)
        self.position = nn.Embedding(longest, size)
        self.norm = nn.LayerNorm(size, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(size, heads) for _ in range(depth))

    def forward(self, tokens, mask):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.word(tokens) + self.position(places))
        bias = (1.0 - mask[:, None, None, :]) * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        return x


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with random weights and random running statistics, so that a wrong fold shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point() and (tensor.ndim < 2 or "running" in name):
                tensor.add_(torch.empty_like(tensor).normal_(0, 0.1, generator=generator))
    return module.eval()


class LSTMTagger(nn.Module):
    """A bidirectional LSTM over embedded words, a class for each."""

    def __init__(self, words=30, size=8, units=6, classes=5):
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.lstm = nn.LSTM(size, units, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * units, classes)

    def forward(self, tokens):
        return self.classifier(self.lstm(self.embedding(tokens))[0])


class GRURegressor(nn.Module):
    """The last state of a GRU through two linear layers."""

    def __init__(self, size=5, units=7):
        super().__init__()
        self.gru = nn.GRU(size, units, batch_first=True)
        self.head = nn.Sequential(nn.Linear(units, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class SqueezeExcite(nn.Module):
    """An inverted residual with squeeze and excitation (Howard et al., MobileNetV3, 2019)."""

    def __init__(self, channels=6, width=12):
        super().__init__()
        self.expand = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.squeeze = nn.Conv2d(width, 4, 1)
        self.excite = nn.Conv2d(4, width, 1)
        self.project = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.hardswish(self.bn1(self.expand(x)))
        y = F.hardswish(self.bn2(self.depthwise(y)))
        # not hardsigmoid, whose gradient PyTorch computes with 1 / 6 in float32 whatever the dtype
        scale = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))
        return x + self.bn3(self.project(y * torch.sigmoid(scale)))


class UNet(nn.Module):
    """Ronneberger et al., U-Net, 2015, of one level, with group normalisation."""

    def __init__(self, width=4):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU())
        self.bottom = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.InstanceNorm2d(2 * width, affine=True)
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.head = nn.Conv2d(2 * width, 1, 1)

    def forward(self, x):
        skip = self.down(x)
        y = self.up(F.elu(self.bottom(F.avg_pool2d(skip, 2))))
        return torch.sigmoid(self.head(torch.cat([skip, y], dim=1)))


class FPN(nn.Module):
    """Lin et al., Feature Pyramid Networks for Object Detection, 2017: each level is resized to the one before."""

    def __init__(self, channels=(4, 6, 8), size=5, **resize):
        super().__init__()
        before = (3, *channels[:-1])
        self.down = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in zip(before, channels, strict=True))
        self.lateral = nn.ModuleList(nn.Conv2d(o, size, 1) for o in channels)
        self.head = nn.Conv2d(size, 2, 3, padding=1)
        self.resize = resize

    def forward(self, image):
        levels, x = [], image
        for down, lateral in zip(self.down, self.lateral, strict=True):
            x = F.relu(down(x))
            levels.append(lateral(x))
        x = levels[-1]
        for level in levels[-2::-1]:
            x = level + F.interpolate(x, size=level.shape[-2:], **self.resize)
        return F.interpolate(self.head(x), size=image.shape[-2:], **self.resize)


class ConvNeXtBlock(nn.Module):
    """Liu et al., A ConvNet for the 2020s, 2022."""

    def __init__(self, channels=6):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.up = nn.Linear(channels, 4 * channels)
        self.down = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x):
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class WaveNet(nn.Module):
    """Dilated 1-D convolutions with gates (van den Oord et al., WaveNet, 2016)."""

    def __init__(self, channels=4):
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=d, dilation=d) for d in (1, 2))
        self.gates = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=d, dilation=d) for d in (1, 2))
        self.head = nn.Conv1d(channels, 2, 1)

    def forward(self, x):
        for kept, gate in zip(self.filters, self.gates, strict=True):
            x = x + torch.tanh(kept(x)) * torch.sigmoid(gate(x))
        return F.log_softmax(self.head(x), dim=1)


class Recommender(nn.Module):
    """Embeddings summed with a bag, and factors multiplied: two inputs, a shared table."""

    def __init__(self, items=20, size=6):
        super().__init__()
        self.table = nn.Embedding(items, size)
        self.mlp = nn.Sequential(nn.Linear(2 * size, 8), nn.PReLU(8), nn.Linear(8, size), nn.Softplus())

    def forward(self, history, candidate):
        seen, wanted = self.table(history).mean(1), self.table(candidate)
        return (self.mlp(torch.cat([seen, wanted], dim=-1)) * wanted).sum(-1)
