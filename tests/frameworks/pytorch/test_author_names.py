"""Variables of printed code are called as the author of the module called them."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.ops import traits


def _halves(x):
    return x.chunk(2, -1)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        scores = torch.exp(x * 2) + x.sum(-1, keepdim=True)
        left, right = _halves(scores)
        gate = torch.sigmoid(left) * torch.tanh(
            right,
        )
        gate -= left
        mixed = self.mix(scores)
        return mixed * torch.cat([gate, gate + 1], -1) + scores


def _body(text):
    return re.findall(r"^        (\S.*?) = ", text.partition("(self, x)")[2], flags=re.MULTILINE)


@pytest.mark.parametrize("target", ["pytorch", "nnx"])
def test_results_have_the_names_of_the_authors_variables(target):
    model = dlbridge.load(Named().eval(), inputs={"x": "float32[batch,8]"})
    text = dlbridge.convert(model, target, check=False).text
    for name in ("scores", "left, right", "gate", "mixed"):
        assert name in _body(text), text


def test_what_is_said_of_a_value():
    model = dlbridge.load(Named().eval(), inputs={"x": "float32[batch,8]"})
    said = {n.name: n.metadata_props.get(traits.VARIABLE) for n in model.graph}
    towards = {n.name: n.metadata_props.get(traits.TOWARDS) for n in model.graph}
    assert (said["sub"], said["mix"], said["add"]) == ("gate", "mixed", "scores")
    assert (towards["exp"], towards["sigmoid"], towards["tanh"]) == ("scores", "gate", "gate")
    assert said["add_2"] is None and towards["add_2"] is None, "what is returned has no variable"


def test_an_exported_program_names_files_that_are_not_looked_at(tmp_path):
    program = torch.export.export(Named().eval(), (torch.randn(2, 8),))
    torch.export.save(program, tmp_path / "named.pt2")
    model = dlbridge.load(tmp_path / "named.pt2")
    assert not any(traits.VARIABLE in n.metadata_props or traits.TOWARDS in n.metadata_props for n in model.graph)


class Keyword(nn.Module):
    """Its variables are names that printed code has for something else."""

    def forward(self, x):
        torch = x * 2
        len = torch.relu() + x
        print = len.sigmoid() * len + torch
        return print.flatten(1) - 1


def test_a_variable_hides_nothing_that_the_code_needs():
    model = dlbridge.load(Keyword(), inputs={"x": "float32[batch,8]"})
    dlbridge.convert(model, "pytorch")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn, self.norm, self.mix = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x):
        return self.norm(self.turn(x) * self.mix(x)) + self.mix(x)


def test_a_layer_does_not_give_its_result_the_name_of_another():
    model = dlbridge.load(Block().eval(), inputs={"x": "float32[batch,4]"})
    text = dlbridge.convert(model, "pytorch", check=False).text
    for target, layer in re.findall(r"(\w+) = self\.(\w+)\(", text):
        assert target in ("x", "out", layer)


class Helped(nn.Module):
    """Its functions have variables of their own; ``ratio`` is computed before ``total``, which is named first."""

    def measured(self, points):
        squares = points * points
        ratio = squares / (1 + points.abs())
        total = squares.sum(-1, keepdim=True) + 1
        return total, ratio

    def forward(self, points, weight):
        scale, share = self.measured(points)
        return share * weight / scale + torch.exp(share) * scale


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(Helped() for _ in range(2))

    def forward(self, features, weight):
        found = []
        for part in self.parts:
            found.append(part(features[0], weight) - features[1])
        halves = [each * 0.5 for each in found]
        return torch.cat(found, -1), halves[0] * halves[1] + halves[1]


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.listed = Listed()

    def forward(self, a, b):
        rows = torch.arange(a.shape[1]) * 2
        joined, product = self.listed((a, b), torch.sigmoid(a))
        return joined[:, rows] * product


@pytest.fixture(scope="module")
def whole():
    model = dlbridge.load(Whole().eval(), inputs={"a": "float32[batch,4]", "b": "float32[batch,4]"})
    return dlbridge.convert(model, "pytorch", check=False).text


def test_parameters_are_those_of_the_authors_methods(whole):
    assert "def forward(self, points, weight):" in whole
    assert "def forward(self, features_0, weight, features_1):" in whole


def test_variables_of_functions_that_a_module_calls_are_known(whole):
    assert "squares = points * points" in whole


def test_results_of_a_function_have_the_names_that_they_are_given_to(whole):
    assert re.search(r"share = squares / ", whole) and re.search(r"scale = squares.sum\(", whole)


def test_items_of_a_list_are_called_after_it(whole):
    for name in ("found_0", "found_1", "halves_0", "halves_1"):
        assert re.search(rf"\b{name} = ", whole), whole


def test_what_a_block_gives_is_called_as_where_it_is_called(whole):
    assert "joined, product = self.listed(" in whole


def test_a_constant_is_called_after_its_variable(whole):
    assert '"rows"' in whole and '"val"' not in whole


def test_torchs_own_modules_are_not_asked_for_their_parameters():
    model = dlbridge.load(
        nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)).eval(),
        inputs={"input": "float32[batch,4]"},
    )
    assert "input_" not in dlbridge.convert(model, "keras", check=False).text
