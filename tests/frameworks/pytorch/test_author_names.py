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
