"""Exported programs that are read with other sizes than they were exported with."""

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeError, SignatureError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return torch.relu(self.norm(self.fc(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Block(), Block()

    def forward(self, x, scale):
        return self.b(self.a(x)) * scale


class Flat(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1)


def _program(module=None, *inputs, **options):
    inputs = inputs or (torch.ones(2, 4), torch.ones(1))
    return torch.export.export((module or Net()).eval(), inputs, **options)


def _sizes(model):
    return [str(v.shape) for v in (*model.inputs, *model.outputs)]


def test_a_fixed_size_becomes_free_and_the_rest_stays(tmp_path):
    torch.export.save(_program(), tmp_path / "net.pt2")
    model = dlbridge.load(tmp_path / "net.pt2", inputs={"x": "[batch,4]"})
    plain = dlbridge.load(tmp_path / "net.pt2")
    assert _sizes(model) == ["[batch,4]", "[1]", "[batch,4]"]
    assert (model.name, [n.name for n in model.graph]) == (plain.name, [n.name for n in plain.graph])
    assert list(model.graph.initializers) == list(plain.graph.initializers)
    arrays = {"x": np.ones((5, 4), "float32"), "scale": np.ones(1, "float32")}
    assert model.original(arrays)["output"].shape == (5, 4)
    dlbridge.convert(model, "onnx")


def test_a_free_size_becomes_a_number():
    program = _program(dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, None))
    assert _sizes(dlbridge.load(program, inputs={"x": "[7,4]"})) == ["[7,4]", "[1]", "[7,4]"]


def test_a_size_that_the_program_holds_is_refused():
    with pytest.raises(DlbridgeError, match="'batch'"):
        dlbridge.load(_program(Flat(), torch.ones(2, 4)), inputs={"x": "[batch,4]"})


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"y": "[batch,4]"}, "no input 'y'"),
        ({"x": "[batch]"}, "takes 2 axes"),
        ({"x": "float64[batch,4]"}, "takes float32, not float64"),
        (("[batch,4]",), "by name"),
    ],
)
def test_inputs_that_do_not_fit_the_program_are_refused(inputs, why):
    with pytest.raises(SignatureError, match=why):
        dlbridge.load(_program(), inputs=inputs)


def test_a_program_that_is_right_for_some_sizes_alone_keeps_its_own():
    program = _program(dynamic_shapes=({0: torch.export.Dim("rows", min=2, max=9)}, None))
    with pytest.raises(SignatureError, match="right for some sizes alone"):
        dlbridge.load(program, inputs={"x": "[n,4]"})


def test_dynamic_is_for_modules():
    with pytest.raises(SignatureError, match="'dynamic' is for"):
        dlbridge.load(_program(), dynamic={"x": {0: "batch"}})
