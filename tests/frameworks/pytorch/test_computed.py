"""Constants that PyTorch computes: a table has the original's numbers to the last bit, in whatever it is written as."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks


class TimeEmbedding(nn.Module):
    """The angles of a time step, as diffusion models have them."""

    def forward(self, timestep):
        exponent = -math.log(10000) * torch.arange(128, dtype=torch.float32) / 128
        angles = 1000.0 * timestep[:, None].float() * torch.exp(exponent)[None, :]
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class Window(nn.Module):
    """Tables of an op that makes them itself, of a buffer that no state dict has, and of one that is written to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.rand(16), persistent=False)

    def forward(self, x):
        table = torch.zeros(16)
        table[0::2] = torch.exp(self.frequencies[0::2])
        return x * torch.hann_window(16) * torch.cos(self.frequencies * 1000) * table


@pytest.mark.parametrize("target", ["pytorch", "onnx"])
def test_large_angles_of_a_table(target):
    model = dlbridge.load(TimeEmbedding(), inputs={"timestep": "int64[batch]"})
    timestep = np.array([0, 803, 999])
    framework = frameworks.get(target)
    (made,) = framework.run(framework.load(framework.write(model)), {"timestep": timestep}).values()
    np.testing.assert_allclose(made, TimeEmbedding()(torch.from_numpy(timestep)), atol=1e-6)


def test_numbers_are_those_of_the_original_to_the_last_bit():
    module = Window()
    framework = frameworks.get("pytorch")
    model = dlbridge.load(module, inputs={"x": "float32[batch,16]"})
    x = torch.rand(3, 16)
    (made,) = framework.run(framework.load(framework.write(model)), {"x": x.numpy()}).values()
    np.testing.assert_allclose(made, module(x), rtol=3e-7)
