"""Lists of modules in Flax NNX that hold weights beside their items."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import dlbridge

pytest.importorskip("flax.nnx")


class ScaledLayers(nn.ModuleList):
    """A list of modules that has a weight of its own; the parametrizations of a layer are such lists."""

    def __init__(self):
        super().__init__([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x):
        for layer in self:
            x = layer(x) * self.scale
        return x


def test_a_list_has_weights_beside_its_items():
    net = nn.Sequential(ScaledLayers(), parametrizations.spectral_norm(nn.Linear(4, 2))).eval()
    model = dlbridge.load(net, inputs={"input": "float32[batch,4]"})
    assert dlbridge.verify(model, routes=["nnx"]).passed
