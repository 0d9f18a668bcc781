"""Gradients that a module's code stops are told of, where they would reach weights that train."""

from __future__ import annotations

import warnings

import pytest
import torch

import dlbridge
from dlbridge.errors import DlbridgeWarning


class Net(torch.nn.Module):
    def __init__(self, how, is_frozen=False):
        super().__init__()
        self.first, self.last, self.how = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), how
        self.first.requires_grad_(not is_frozen)

    def forward(self, x):
        if self.how == "detach":
            return self.last(self.first(x).detach())
        with torch.no_grad():
            x = self.first(x) if self.how == "no_grad" else x * 2
        return self.last(self.first(x))


def told(net):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dlbridge.load(net, inputs={"x": "float32[batch,3]"})
    return [str(w.message) for w in caught if w.category is DlbridgeWarning and "gradients" in str(w.message)]


@pytest.mark.parametrize("how", ["detach", "no_grad"])
def test_stopped_gradients_of_weights_that_train_are_told(how):
    (text,) = told(Net(how))
    assert text.startswith("not kept: gradients that the code stops")
    assert (__file__ in text) == (how == "detach")


@pytest.mark.parametrize("net", [Net("detach", is_frozen=True), Net("no_grad", is_frozen=True), Net("of the input")])
def test_where_nothing_would_learn_from_them_nothing_is_told(net):
    assert told(net) == []
