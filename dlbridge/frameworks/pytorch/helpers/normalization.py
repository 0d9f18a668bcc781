"""Helpers of normalisations."""

import torch
import torch.nn.functional as F
from torch import nn


class BiasedVariance:
    """A batch norm whose running variance is the batch's own (biased) one; nn.BatchNorm keeps n / (n - 1) of it."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        before = self.running_var.clone()
        y = super().forward(x)
        count = x.numel() / x.shape[1]
        kept = (1 - self.momentum) * before
        # A new tensor: autograd holds on to the one that the forward pass has used.
        self.running_var = kept + (self.running_var - kept) * (count - 1) / count
        return y


class BiasedBatchNorm1d(BiasedVariance, nn.BatchNorm1d):
    """nn.BatchNorm1d with a biased running variance."""


class BiasedBatchNorm2d(BiasedVariance, nn.BatchNorm2d):
    """nn.BatchNorm2d with a biased running variance."""


class BiasedBatchNorm3d(BiasedVariance, nn.BatchNorm3d):
    """nn.BatchNorm3d with a biased running variance."""


class FrozenStatistics:
    """A batch norm that normalises with its running statistics in training too, and leaves them as they are."""

    def train(self, mode=True):
        return super().train(False)


class FrozenBatchNorm1d(FrozenStatistics, nn.BatchNorm1d):
    """nn.BatchNorm1d with frozen statistics."""


class FrozenBatchNorm2d(FrozenStatistics, nn.BatchNorm2d):
    """nn.BatchNorm2d with frozen statistics."""


class FrozenBatchNorm3d(FrozenStatistics, nn.BatchNorm3d):
    """nn.BatchNorm3d with frozen statistics."""


def batch_norm_on_batch(x, scale, bias, mean, var, eps, momentum):
    """Normalises with the batch's own mean and variance; also gives the new running ones."""
    axes = [0, *range(2, x.dim())]
    batch_var, batch_mean = torch.var_mean(x, axes, correction=0)
    y = F.batch_norm(x, batch_mean, batch_var, scale, bias, eps=eps)
    return y, mean * momentum + batch_mean * (1 - momentum), var * momentum + batch_var * (1 - momentum)


def layer_norm_with_statistics(x, scale, bias, axis, eps):
    """Layer norm over the axes from ``axis`` on; also the mean and the inverse standard deviation."""
    axes = tuple(range(axis, x.dim()))
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + eps)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


def standardize(x, axes):
    """x with mean 0 and variance 1 over the axes."""
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / (var.sqrt() + 1e-9)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """Divides by the squares of ``size`` neighbouring channels; of an even number, one more of those that follow."""
    squares = F.pad(x.square(), [0, 0] * (x.dim() - 2) + [(size - 1) // 2, size // 2])
    total = sum(squares.narrow(1, i, x.shape[1]) for i in range(size))
    return x / (k + alpha / size * total) ** beta
