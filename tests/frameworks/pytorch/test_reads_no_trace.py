"""Reading a torch module changes nothing of it: not meanwhile, and not afterwards."""

from __future__ import annotations

import logging
import threading
import warnings

import pytest
import sympy.utilities.exceptions  # noqa: F401  (adds a filter of its own when it is imported)
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.pytorch.export.own_copy import own_copy


class Net(nn.Module):
    """Layers that act otherwise in training, a tensor that is no parameter, and a note in an attribute."""

    def __init__(self, meanwhile=lambda: None):
        super().__init__()
        self.linear, self.drop, self.norm = nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)
        self.tied = self.linear
        self.offsets, self.calls, self.meanwhile = [torch.ones(4)], 0, meanwhile

    def forward(self, x):
        self.meanwhile()
        self.calls = self.calls + 1
        return self.norm(self.drop(self.tied(x))) + self.offsets[0]


def _state(net):
    python = list(warnings.filters), logging.getLogger("torch._subclasses.fake_tensor").level
    return (
        python,
        [(name, id(t)) for name, t in net.state_dict(keep_vars=True).items()],
        [(part.training, sorted(vars(part))) for part in net.modules()],
    )


def test_another_thread_trains_the_module_meanwhile():
    seen = []
    net = Net(meanwhile=lambda: threading.current_thread() is reading and _look())
    reading = threading.current_thread()

    def _look():
        thread = threading.Thread(target=lambda: seen.append((_state(net), net(torch.ones(3, 4)).requires_grad)))
        thread.start()
        thread.join()

    before = _state(net)
    model = dlbridge.load(net, inputs=(torch.randn(3, 4),))
    assert seen and all(found == (before, True) for found in seen)
    assert _state(net) == before
    assert any(node.op_type == "Dropout" for node in model.graph)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_read_that_fails(error):
    def fail():
        raise error("stop")

    net = Net(meanwhile=fail)
    before = _state(net)
    with pytest.raises((DlbridgeError, error)):
        dlbridge.load(net, inputs=(torch.randn(3, 4),))
    assert _state(net) == before
    assert net.calls == 0


def test_a_copy_shares_its_tensors():
    net = Net()
    copied = own_copy(net)
    assert copied is not net and copied.linear is not net.linear and copied.tied is copied.linear
    assert copied.linear.weight is net.linear.weight
    assert copied.norm.running_mean is net.norm.running_mean
    assert copied.offsets[0] is net.offsets[0]


def test_a_module_that_cannot_be_copied_is_read_all_the_same():
    net = Net()
    net.lock = threading.Lock()
    assert own_copy(net) is net
    before = _state(net)
    dlbridge.load(net, inputs=(torch.randn(3, 4),))
    assert _state(net) == before


class Branching(torch.nn.Module):
    """Takes another way for other numbers; where it is mapped over rows, too."""

    def __init__(self, is_mapped):
        super().__init__()
        self.is_mapped = is_mapped

    def forward(self, x):
        if self.is_mapped:
            return torch.vmap(lambda row: row * 2 if row.sum() > 0 else row)(x)
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_refused_module_leaves_nothing_on_the_terminal(is_mapped, capfd):
    with pytest.raises(DlbridgeError):
        dlbridge.load(Branching(is_mapped), inputs={"x": "float32[batch,3]"})
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
