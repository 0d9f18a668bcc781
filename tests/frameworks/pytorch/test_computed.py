"""Constants that PyTorch computes: a table has the original's numbers to the last bit, in whatever it is written as."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, UnsupportedOpError
from dlbridge.ops import traits


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


class Orthonormal(nn.Module):
    """A parametrization by ops of which one has no rule, and of a view of the weight."""

    def forward(self, weight):
        return torch.linalg.qr(weight.T)[0].contiguous() + weight.triu()


def parametrized(kind: str) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6))
    if kind == "qr":
        parametrize.register_parametrization(module[0], "weight", Orthonormal())
    else:
        parametrizations.orthogonal(module[0], orthogonal_map=kind)
    return module.eval()


@pytest.mark.parametrize("kind", ["qr", "matrix_exp", "householder"])
def test_a_weight_made_of_others_by_an_op_without_a_rule_is_computed_once_and_frozen(kind):
    module = parametrized(kind)
    with pytest.warns(DlbridgeWarning, match=r"computed once; they do not train: 0\.weight"):
        model = dlbridge.load(module, inputs={"input": "float32[batch,8]"})
    assert sorted(model.graph.initializers) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert traits.kind(model.graph.initializers["0.weight"]) == "frozen"
    assert traits.kind(model.graph.initializers["2.weight"]) == "parameter"
    assert dlbridge.verify(model, routes=["pytorch", "onnx"]).passed


def test_an_op_without_a_rule_that_reads_an_input_is_refused():
    class Net(nn.Module):
        def forward(self, x):
            return torch.linalg.matrix_exp(x)

    with pytest.raises(UnsupportedOpError, match=r"linalg_matrix_exp\.default has no rule"):
        dlbridge.load(Net(), inputs={"x": "float32[4,4]"})


def test_the_bits_of_a_constant_are_viewed_as_another_type():
    class Net(nn.Module):
        def forward(self, x):
            return x + torch.arange(6, dtype=torch.float32).view(torch.int32)

    model, x = dlbridge.load(Net(), inputs={"x": "int32[batch,6]"}), torch.ones(2, 6, dtype=torch.int32)
    torch.testing.assert_close(model.to_pytorch()(x), Net()(x))
