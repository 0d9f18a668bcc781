"""Code that does something else where a size is 1, of which a trace of larger sizes tells nothing."""

import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

import dlbridge
from dlbridge.errors import DlbridgeError, DlbridgeWarning
from dlbridge.ops import traits


class Net(nn.Module):
    """A module of one function of its input; it counts the calls with numbers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.linear, self.runs = function, nn.Linear(4, 4), 0

    def forward(self, x):
        self.runs += not isinstance(x, FakeTensor) and not torch.compiler.is_exporting()
        return self.function(x, self.linear)


class Fixed(torch.autograd.Function):
    """A function of the author's own, with code of its own."""

    @staticmethod
    def forward(context, x):
        return x * 2 if x.shape[0] == 1 else x


def doubled(x):
    return x * 2 if x.shape[0] == 1 else x


@torch.overrides.wrap_torch_function(lambda x: (x,))
def overridable(x):
    return doubled(x)


#: How code can find out that the batch is 1.
ASKS = {
    "shape": lambda x, linear: x * 2 if x.shape[0] == 1 else x,
    "getattr": lambda x, linear: x * 2 if getattr(x, "sha" + "pe")[0] == 1 else x,
    "size": lambda x, linear: x * 2 if x.size(0) == 1 else x,
    "all sizes": lambda x, linear: x * 2 if next(iter(x.size())) == 1 else x,
    "numel": lambda x, linear: x * 2 if x.numel() == 4 else x,
    "torch.numel": lambda x, linear: x * 2 if torch.numel(x) == 4 else x,
    "aten": lambda x, linear: x * 2 if torch.ops.aten.sym_size.int(x, 0) == 1 else x,
    "of a result": lambda x, linear: x * 2 if linear(x).relu().shape[0] < 2 else x,
    "detached": lambda x, linear: x * 2 if x.detach().shape[0] == 1 else x,
    "the same size": lambda x, linear: x * 2 if x.is_same_size(x[:1]) else x,
    "a function of its own": lambda x, linear: overridable(linear(x)),
    "autograd": lambda x, linear: Fixed.apply(linear(x)),
}


@pytest.mark.parametrize("function", ASKS.values(), ids=list(ASKS))
def test_code_that_asks_whether_a_size_is_one_is_refused(function):
    with pytest.raises(DlbridgeError, match=r"takes another way for some sizes.*batch >= 2"):
        dlbridge.load(Net(function), inputs={"x": "float32[batch,4]"})


def test_code_that_can_see_no_size_is_not_run():
    module = Net(lambda x, linear: nn.functional.layer_norm(linear(x).relu(), (4,)) + x)
    dlbridge.load(module, inputs={"x": "float32[batch,4]"})
    assert module.runs == 0


def squeezed(x, linear):
    return linear(x.unsqueeze(-2)).squeeze()


def test_an_axis_that_squeeze_takes_away_for_some_sizes_alone_is_told():
    with pytest.warns(
        DlbridgeWarning, match=r"test_sizes_of_one\.py:.*squeeze takes the axis 'batch' away too where it"
    ):
        model = dlbridge.load(Net(squeezed), inputs={"x": "float32[batch,4]"})
    assert [c.text for c in traits.constraints(model.graph)] == ["batch >= 2"]


@pytest.mark.parametrize("batch", ["2<=batch", "2*batch", "1", "3"])
def test_squeeze_is_right_without_a_word_where_the_size_is_settled(batch):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlbridgeWarning)
        dlbridge.load(Net(squeezed), inputs={"x": f"float32[{batch},4]"})


def test_an_exported_program_that_squeezes_is_told_of():
    program = torch.export.export(Net(squeezed), (torch.zeros(3, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
    with pytest.warns(DlbridgeWarning, match="squeeze takes the axis 'batch'"):
        assert [c.text for c in traits.constraints(dlbridge.load(program).graph)] == ["batch >= 2"]
