"""Tensors that are joined along a new axis are stacked, where nothing else reads them with that axis."""

import pytest
import torch
from torch import nn

import dlbridge

STACK = {"pytorch": "torch.stack(", "keras": "ops.stack(", "nnx": "jnp.stack("}


class Net(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def written(function, framework):
    model = dlbridge.load(Net(function), inputs={"x": "float32[batch,3]"})
    return dlbridge.convert(model, framework)  # which checks it


STACKED = {
    "several": (lambda x: torch.stack([x, x * 2, x.relu()]), "x, "),
    "the same one": (lambda x: torch.stack([x] * 5, dim=1), "[x] * 5"),
    "along the last axis": (lambda x: torch.stack((x.sin(), x.cos()), dim=-1).flatten(1), ""),
    "rows of integers": (lambda x: torch.stack([x.argmax(1), x.argmin(1)], dim=1), ""),
    "numbers": (lambda x: torch.stack([x.mean(), x.sum()]), ""),
}


@pytest.mark.parametrize("case", STACKED)
@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
def test_tensors_are_stacked(case, framework):
    function, part = STACKED[case]
    text = written(function, framework).text
    assert STACK[framework] in text
    assert framework != "pytorch" or part in text


def _read_elsewhere(x):
    row = x.unsqueeze(1)
    return torch.cat([row, x.relu().unsqueeze(1)], dim=1), row


def _of_sizes(x):
    return torch.ones(x.shape[0], 2) * x.shape[0]


def _another_axis(x):
    return torch.cat([x.unsqueeze(1), x.relu().unsqueeze(1)], dim=2)


@pytest.mark.parametrize("function", [_read_elsewhere, _of_sizes, _another_axis], ids=lambda f: f.__name__[1:])
def test_what_is_no_stack_stays(function):
    assert "stack(" not in written(function, "pytorch").text


def test_many_times_the_same_tensor_is_said_in_short():
    assert "torch.cat([x] * 40, dim=1)" in written(lambda x: torch.cat([x] * 40, dim=1), "pytorch").text
