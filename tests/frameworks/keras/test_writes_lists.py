"""Numbered layers that a class goes through are a list in it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks


class Scaled(nn.Module):
    """What stands in a ``Layer`` subclass in Keras: it reads how many rows there are."""

    def __init__(self, hidden=4):
        super().__init__()
        self.fc = nn.Linear(4, hidden)
        self.back = nn.Linear(hidden, 4)

    def forward(self, x):
        rows = x.new_zeros((x.shape[0], x.shape[1]))
        return torch.tanh(self.back(self.fc(x))) + rows.unsqueeze(2)


class Own(nn.Sequential):
    """A sequence in a class of the author's own."""


class Lists(nn.Module):
    """Lists: gone through, called one by one, of several kinds, in a list; a sequence; one in a class of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Scaled() for _ in range(4)])
        self.kinds = nn.ModuleList([Scaled(), nn.Linear(4, 4), Scaled(5)])
        self.nested = nn.ModuleList([nn.ModuleList([Scaled(), Scaled()]), nn.ModuleList([Scaled(), Scaled()])])
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 4))
        self.own = Own(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        first = self.kinds[2](x)
        x = self.kinds[0](x) + self.kinds[1](first)
        for pair in self.nested:
            x = pair[1](pair[0](x))
        return self.own(self.mlp(x)) + torch.arange(x.shape[1]).unsqueeze(1)


@pytest.fixture(scope="module")
def read():
    torch.manual_seed(0)
    module = Lists().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,time,4]"})
    return module, model, model.write("keras")


def same(module, live):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    (found,) = frameworks.get("keras").run(live, {"x": x}).values()
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_a_list_is_one_statement_and_a_loop_goes_through_it(read):
    text = read[2].text
    assert 'self.layers = [Scaled(4, name=f"layers-{i}") for i in range(4)]' in text
    assert "for layer in self.layers:" in text
    assert "class Layers" not in text


def test_items_are_called_by_their_places_where_they_are_not_gone_through(read):
    text = read[2].text
    assert 'Scaled(4, name="kinds-0"), layers.Dense(4, name="kinds-1"), Scaled(5, name="kinds-2")' in text
    assert "first = self.kinds[2](" in text
    assert "class Kinds" not in text


def test_a_sequence_is_a_list_of_its_layers_alone(read):
    text = read[2].text
    assert '"gelu", name="mlp-0"' in text and "for layer in self.mlp:" in text
    assert "class Own(layers.Layer):" in text


def test_a_list_in_a_list_is_one_in_a_class(read):
    text = read[2].text
    assert "class Nested(layers.Layer):" in text
    assert 'self.layer_0 = [Scaled(4, name="0-0"), Scaled(4, name="0-1")]' in text


def test_the_numbers_are_those_of_the_original(read):
    module, _, source = read
    same(module, frameworks.get("keras").load(source))


def test_a_keras_file_holds_the_layers_of_lists(read, tmp_path):
    module, _, source = read
    live = frameworks.get("keras").load(source)
    live.save(tmp_path / "m.keras")
    space = vars(live)["dlbridge_source"].execute()
    known = {name: item for name, item in space.items() if isinstance(item, type)}
    again = keras.saving.load_model(tmp_path / "m.keras", known)
    again.dlbridge_source = source
    same(module, again)


def test_names_come_back(read):
    module, model, _ = read
    again = dlbridge.load(model.to_keras(), inputs={"x": "float32[batch,time,4]"})
    again.to_pytorch().load_state_dict(module.state_dict(), strict=True)


class Counted(nn.Module):
    """Its code reads numbers from a tensor, so that it runs eagerly in Keras and builds its layers itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Scaled() for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x, torch.nonzero(x[:, 0, 0] > 0)


def test_layers_of_a_list_are_built_where_code_runs_eagerly():
    torch.manual_seed(0)
    module = Counted().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,time,4]"})
    source = model.write("keras")
    assert "self.layers[2].build((None, None, 4))" in source.text
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = list(frameworks.get("keras").run(frameworks.get("keras").load(source), {"x": x}).values())
    with torch.no_grad():
        for one, wanted in zip(found, module(torch.from_numpy(x)), strict=True):
            np.testing.assert_allclose(one, wanted.numpy(), atol=1e-5)
