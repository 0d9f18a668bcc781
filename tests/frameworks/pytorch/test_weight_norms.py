"""Layers with a weight norm are printed as such, load the original's state dict, and compute and train what it does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as hooked

import dlbridge
from dlbridge.verification import verify

FORMS = {
    "hooked": hooked,
    "parametrized": parametrizations.weight_norm,
    "of the last axis": lambda layer: parametrizations.weight_norm(layer, dim=-1),
    "of all": lambda layer: hooked(layer, dim=None),
}


class Layers(nn.Module):
    """Three kinds of layers, which are under other names in a chain, too."""

    def __init__(self, norm):
        super().__init__()
        self.first = norm(nn.Conv1d(3, 4, 3, padding=2, dilation=2))
        self.second = norm(nn.ConvTranspose1d(4, 4, 3, bias=False))
        self.net = nn.Sequential(self.first, nn.ReLU(), self.second)
        self.last = norm(nn.Linear(4, 2))

    def forward(self, x):
        return self.last(self.net(x).mean(-1))


class Causal(nn.Conv1d):
    """A layer that pads for itself, so its module is more than a layer."""

    def forward(self, x):
        return super().forward(F.pad(x, (2, 2)))


class Twice(nn.Module):
    def __init__(self, norm, layer):
        super().__init__()
        self.layer = norm(layer)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)).flip(-1))


def read(module):
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return dlbridge.load(module.eval(), inputs={"x": "float32[batch,3,12]"})


@pytest.mark.parametrize("form", FORMS)
def test_they_are_layers_with_a_norm(form):
    torch.manual_seed(0)
    module = Layers(FORMS[form])
    model = read(module)
    written = model.write("pytorch")
    function = "nn.utils.weight_norm" if form in ("hooked", "of all") else "nn.utils.parametrizations.weight_norm"
    assert "".join(written.text.split()).count(f"{function}(nn.") == 3
    assert "self.first = self.net[0]" in written.text
    model.to_pytorch().load_state_dict(module.state_dict())
    report = verify(model, routes=["pytorch"], written={"pytorch": written}, battery="quick")
    report.require()


@pytest.mark.parametrize("layer", [nn.Conv1d, Causal])
@pytest.mark.parametrize("form", ["hooked", "parametrized"])
def test_modules_that_do_more_than_a_layer_stay_what_they_are(form, layer):
    module = Twice(FORMS[form], layer(3, 3, 3))
    model = read(module)
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(live(x), module(x))


@pytest.mark.parametrize("form", ["hooked", "parametrized"])
def test_direction_and_lengths_are_trained(form):
    module = Layers(FORMS[form])
    live = read(module).to_pytorch()
    x = torch.randn(2, 3, 12)
    for each in (module, live):
        each.train()
        each(x).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    for name, parameter in live.named_parameters():
        name = name.replace("net.0", "first").replace("net.2", "second")
        torch.testing.assert_close(parameter.grad, gradients[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["hooked", "parametrized"])
def test_the_layer_within_has_the_type_of_its_weights(form, dtype):
    module = Layers(FORMS[form]).to(dtype)
    live = dlbridge.load(module.eval(), inputs={"x": f"{str(dtype).removeprefix('torch.')}[batch,3,12]"}).to_pytorch()
    x = torch.randn(2, 3, 12, dtype=dtype)
    torch.testing.assert_close(live(x), module(x))
