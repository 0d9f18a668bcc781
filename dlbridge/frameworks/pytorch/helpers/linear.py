"""Linear layers that PyTorch has no class for."""

import torch.nn.functional as F
from torch import nn


class TransposedLinear(nn.Linear):
    """nn.Linear that holds its weight as (in_features, out_features)."""

    def __init__(self, in_features, out_features, bias=True, dtype=None):
        super().__init__(in_features, out_features, bias, dtype=dtype)
        self.weight = nn.Parameter(self.weight.detach().T.contiguous())

    def forward(self, x):
        return F.linear(x, self.weight.T, self.bias)
