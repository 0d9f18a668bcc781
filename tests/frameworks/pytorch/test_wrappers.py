"""Modules that were wrapped to run."""

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeWarning

INPUTS = {"input": "float32[batch,3]"}
WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "OptimizedModule": torch.compile,
    "DataParallel and OptimizedModule": lambda module: nn.DataParallel(torch.compile(module)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_module_within_is_read_with_a_word(name):
    with pytest.warns(DlbridgeWarning, match=f"within {name} is read"):
        model = dlbridge.load(WRAPPERS[name](nn.Linear(3, 2)), inputs=INPUTS)
    assert list(model.graph.initializers) == ["weight", "bias"]
    assert [v.name for v in model.inputs] == ["input"]
