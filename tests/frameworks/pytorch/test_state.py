"""A module that writes to itself when it is run: each run of a conversion begins with what was read."""

from __future__ import annotations

import warnings
from collections import deque

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.pytorch.export.state import kept


class Cache:
    def __init__(self):
        self.keys = None


class Stateful(nn.Module):
    """Holds a cache, a list of tensors, a counter, a buffer, and the last result."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.cache, self.sums, self.past, self.calls = Cache(), [torch.zeros(4)], deque([1]), 0
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        y = self.linear(x)
        if self.cache.keys is not None:
            y = y + self.cache.keys.sum(0)
        self.cache.keys = y
        self.sums[0].add_(1.0)
        self.seen.add_(1.0)
        self.past.append(2)
        self.calls += 1
        return y * self.sums[0] * self.seen * self.calls


def test_each_run_begins_with_what_was_read():
    module = Stateful().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,4]"})
    assert module.cache.keys is None and module.calls == 0 and list(module.past) == [1]
    x = torch.randn(3, 4)
    first, second = (model.original({"x": x.numpy()})["output"] for _ in range(2))
    assert (first == second).all()
    dlbridge.convert(model, "pytorch")
    assert not module.sums[0].any() and not module.seen.any()
    torch.testing.assert_close(module(x), torch.from_numpy(first))


def test_attributes_are_put_back_after_an_error():
    module = Stateful()
    del module.past
    before = {name: value for name, value in vars(module).items() if not isinstance(value, dict)}
    with pytest.raises(AttributeError), kept(module, ["seen"]):
        module.new = 1
        module.training = False
        module(torch.randn(2, 4))
    after = {name: value for name, value in vars(module).items() if not isinstance(value, dict)}
    assert after == {**before, "training": False}, "the mode is not state of a run"
    assert not module.seen.any() and not module.sums[0].any() and module.sums[0].grad_fn is None


def test_tensors_that_are_replaced_are_those_of_before():
    module = Stateful()
    seen, only = module.seen, module.sums[0]
    with kept(module):
        module.seen = torch.ones(4)
        module.sums = []
        module.sums.append(only + 1)
    assert module.seen is seen and module.sums == [only]


class Stream(nn.Module):
    """Goes on where its last call ended, in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.rnn, self.way = nn.GRU(3, 4, batch_first=True), way
        self.register_buffer("held", torch.zeros(1, 2, 4))
        self.state, self.history, self.calls = None, [], 0

    def forward(self, x):
        self.calls += 1  # of no consequence
        if self.way == "attribute":
            y, self.state = self.rnn(x, self.state)
        elif self.way == "buffer":
            y, self.held = self.rnn(x, self.held)
        elif self.way == "buffer in place":
            y, last = self.rnn(x, self.held)
            self.held.copy_(last)
        elif self.way == "list":
            y, last = self.rnn(x, self.history[-1] if self.history else None)
            self.history.append(last)
        else:
            y, self.state = self.rnn(x)
        return y


@pytest.mark.parametrize(
    ("way", "kept"), {"attribute": "state", "buffer": "held", "buffer in place": "held", "list": "history"}.items()
)
def test_what_a_call_leaves_for_the_next_is_told(way, kept):
    with pytest.warns(DlbridgeWarning, match=f"forward keeps (calls, )?{kept}.* for its next call"):
        dlbridge.load(Stream(way).eval(), inputs={"x": "float32[2,t,3]"})


def test_a_program_that_writes_to_its_buffers_is_told():
    program = torch.export.export(Stream("buffer in place").eval(), (torch.randn(2, 5, 3),))
    with pytest.warns(DlbridgeWarning, match="forward keeps held for its next call"):
        dlbridge.load(program)


def test_what_no_later_call_reads_is_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlbridgeWarning)
        dlbridge.load(Stream("nothing").eval(), inputs={"x": "float32[2,t,3]"})
