"""Networks in the form in which they are usually written, in plain PyTorch: a detector of the YOLO family, and DLRM."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class Conv(nn.Module):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, shortcut: bool):
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.add = shortcut

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C2f(nn.Module):
    """A cross-stage partial block: half of the channels pass bottlenecks, and every step is kept."""

    def __init__(self, inputs: int, outputs: int, count: int = 1, shortcut: bool = False):
        super().__init__()
        self.hidden = outputs // 2
        self.cv1 = Conv(inputs, outputs)
        self.cv2 = Conv((2 + count) * self.hidden, outputs)
        self.m = nn.ModuleList(Bottleneck(self.hidden, shortcut) for _ in range(count))

    def forward(self, x):
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling by one pool, thrice."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 5):
        super().__init__()
        self.cv1 = Conv(inputs, inputs // 2)
        self.cv2 = Conv(inputs * 2, outputs)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x):
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat([x, y1, y2, self.m(y2)], 1))


class Detect(nn.Module):
    """Boxes (by distributions over distances from the anchor to the sides) and classes of three scales."""

    strides = (8, 16, 32)

    def __init__(self, classes: int, channels: tuple[int, ...], bins: int = 16):
        super().__init__()
        self.classes, self.bins = classes, bins
        self.box = nn.ModuleList(nn.Sequential(Conv(c, c, 3), nn.Conv2d(c, 4 * bins, 1)) for c in channels)
        self.cls = nn.ModuleList(nn.Sequential(Conv(c, c, 3), nn.Conv2d(c, classes, 1)) for c in channels)
        self.register_buffer("distances", torch.arange(bins, dtype=torch.float32)[:, None], persistent=False)

    def forward(self, features):
        boxes, scores = [], []
        for x, box, cls, stride in zip(features, self.box, self.cls, self.strides, strict=True):
            height, width = x.shape[2:]
            ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            anchors = torch.stack([xs, ys]).flatten(1)
            sides = box(x).flatten(2).unflatten(1, (4, self.bins)).softmax(2)
            left_top, right_bottom = (sides * self.distances).sum(2).chunk(2, 1)
            first, last = anchors - left_top, anchors + right_bottom
            boxes.append(torch.cat([(first + last) / 2, last - first], 1) * stride)
            scores.append(cls(x).flatten(2).sigmoid())
        return torch.cat([torch.cat(boxes, 2), torch.cat(scores, 2)], 1)


class YOLO(nn.Module):
    """A backbone, a path up and a path down again, and a head without anchors."""

    def __init__(self, classes: int = 80, width: int = 16):
        super().__init__()
        w = width
        self.stem = nn.Sequential(Conv(3, w, 3, 2), Conv(w, 2 * w, 3, 2), C2f(2 * w, 2 * w, 1, True))
        self.stage3 = nn.Sequential(Conv(2 * w, 4 * w, 3, 2), C2f(4 * w, 4 * w, 2, True))
        self.stage4 = nn.Sequential(Conv(4 * w, 8 * w, 3, 2), C2f(8 * w, 8 * w, 2, True))
        self.stage5 = nn.Sequential(Conv(8 * w, 16 * w, 3, 2), C2f(16 * w, 16 * w, 1, True), SPPF(16 * w, 16 * w))
        self.upsample = nn.Upsample(scale_factor=2)
        self.up4 = C2f(24 * w, 8 * w)
        self.up3 = C2f(12 * w, 4 * w)
        self.down3 = Conv(4 * w, 4 * w, 3, 2)
        self.out4 = C2f(12 * w, 8 * w)
        self.down4 = Conv(8 * w, 8 * w, 3, 2)
        self.out5 = C2f(24 * w, 16 * w)
        self.detect = Detect(classes, (4 * w, 8 * w, 16 * w))

    def forward(self, images):
        p3 = self.stage3(self.stem(images))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        n4 = self.up4(torch.cat([self.upsample(p5), p4], 1))
        n3 = self.up3(torch.cat([self.upsample(n4), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        return self.detect([n3, n4, n5])


def mlp(sizes: list[int], last: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers[-1] = last()
    return nn.Sequential(*layers)


class DLRM(nn.Module):
    """Naumov et al., Deep Learning Recommendation Model, 2019: products of all pairs of dense and sparse features."""

    def __init__(self, rows: tuple[int, ...] = (100, 20, 50), size: int = 16, dense: int = 13):
        super().__init__()
        count = len(rows) + 1
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, size, mode="sum") for n in rows)
        self.bot_l = mlp([dense, 64, size])
        self.top_l = mlp([size + count * (count - 1) // 2, 64, 1], nn.Sigmoid)

    def interact_features(self, x, ly):
        features = torch.cat([x, *ly], 1).view(x.shape[0], -1, x.shape[1])
        products = torch.bmm(features, features.transpose(1, 2))
        row, column = torch.tril_indices(products.shape[1], products.shape[2], offset=-1)
        return torch.cat([x, products[:, row, column]], 1)

    def forward(self, dense, sparse):
        x = self.bot_l(dense)
        ly = [embed(sparse[:, i]) for i, embed in enumerate(self.emb_l)]
        return self.top_l(self.interact_features(x, ly))
