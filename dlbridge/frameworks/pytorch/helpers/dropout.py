"""Helpers of layers that act in training alone."""

import torch
import torch.nn.functional as F
from torch import nn


def dropout(x, ratio, training):
    """Dropout, and which elements were kept."""
    if not training or ratio == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    kept = torch.rand_like(x) >= ratio
    return x * kept / (1 - ratio), kept


class BroadcastDropout(nn.Module):
    """Dropout that decides once for all elements along some axes."""

    def __init__(self, p, axes):
        super().__init__()
        self.p, self.axes = p, axes

    def mask_shape(self, x):
        return [1 if axis in self.axes else size for axis, size in enumerate(x.shape)]

    def forward(self, x):
        return x * F.dropout(x.new_ones(self.mask_shape(x)), self.p) if self.training else x


class DropPath(nn.Module):
    """Drops whole samples: stochastic depth, on the branch of a residual block."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], *[1] * (x.dim() - 1)), self.p)


class BroadcastAlphaDropout(BroadcastDropout):
    """nn.AlphaDropout that decides once for all elements along some axes."""

    def forward(self, x):
        if not self.training:
            return x
        kept = torch.rand(self.mask_shape(x), device=x.device) >= self.p
        low = -1.7580993408473766
        scale = ((1 - self.p) * (1 + self.p * low**2)) ** -0.5
        return scale * (torch.where(kept, x, low) - self.p * low)


class GaussianDropout(nn.Module):
    """Multiplies by normal numbers around 1, of the variance p / (1 - p)."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (1 + torch.randn_like(x) * (self.p / (1 - self.p)) ** 0.5) if self.training else x


class GaussianNoise(nn.Module):
    """Adds normal numbers around 0."""

    def __init__(self, stddev):
        super().__init__()
        self.stddev = stddev

    def forward(self, x):
        return x + torch.randn_like(x) * self.stddev if self.training else x
