"""What ONNX has no op for and torch computes step by step, into all targets, with a batch that is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.verification import verify

_INDEX = torch.tensor([2, 0, 2])


def _matrix(x):
    """Matrices (batch, 4, 4) that need pivots."""
    return torch.einsum("bi,bj->bij", x, x) + torch.eye(4).flip(0) * 3


def _positive(x):
    return torch.einsum("bi,bj->bij", x, x) + torch.eye(4) * 2


FUNCTIONS = {
    "cummax": lambda x: torch.cummax(x, 1),
    "cummin along the batch": lambda x: torch.cummin(x.round(), 0),
    "logcumsumexp": lambda x: torch.logcumsumexp(x * 3, -1),
    "gcd and lcm": lambda x: (
        torch.gcd((x * 40).int(), (x.flip(1) * 60).int()),
        torch.lcm((x * 9).long(), torch.tensor(12)),
    ),
    "index_reduce": lambda x: [
        x.index_reduce(1, _INDEX, x[:, :3] * 2, how, include_self=own)
        for how in ("prod", "mean", "amax", "amin")
        for own in (True, False)
    ],
    "put": lambda x: x.put(torch.tensor([1, -1, 1]), torch.tensor([1.0, 2.0, 3.0]), accumulate=True),
    "in place, taken apart": lambda x: (
        x.clone().clamp_min_(0.1).addcmul_(x, x, value=2).index_fill_(1, _INDEX[:2], 3.0).frac_().deg2rad_()
    ),
    "nanmedian": lambda x: torch.nanmedian(torch.where(x > 0.5, torch.nan, x), 1).values,
    "solve": lambda x: torch.linalg.solve(_matrix(x), x),
    "solve from the right": lambda x: torch.linalg.solve(_matrix(x), _positive(x), left=False),
    "inverse": lambda x: torch.linalg.inv(_matrix(x)),
    "slogdet": lambda x: torch.linalg.slogdet(_matrix(x)),
    "cholesky": lambda x: (torch.linalg.cholesky(_positive(x)), torch.linalg.cholesky(_positive(x), upper=True)),
    "triangles": lambda x: torch.linalg.solve_triangular(_positive(x), x.unsqueeze(-1), upper=True),
    "einsum of an ellipsis": lambda x: torch.einsum("...i,i->...", x, torch.arange(4.0)),
    "layer norm's statistics": lambda x: torch.native_layer_norm(x, [4], None, None, 1e-5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_composed(name):
    class Net(torch.nn.Module):
        def forward(self, x):
            made = FUNCTIONS[name](x)
            return tuple(made) if isinstance(made, (tuple, list)) else made

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    wanted = Net()(x)
    model = dlbridge.load(Net(), inputs={"x": "float32[batch,4]"})
    for target in ("pytorch", "keras", "onnx"):
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        answers = framework.run(live, {"x": x.numpy()}).values()
        for answer, right in zip(answers, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_allclose(answer, right, 1e-4, 1e-5, err_msg=target)


def test_integers_are_stacked_beside_floats_as_floats():
    class Stacked(torch.nn.Module):
        def forward(self, x, ids):
            return torch.column_stack([x, ids]), torch.hstack([ids, x]), torch.vstack([x, ids])

    model = dlbridge.load(Stacked(), inputs={"x": "float32[batch,3]", "ids": "int64[batch,3]"})
    assert {v.dtype.name for v in model.outputs} == {"FLOAT"}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_one_length_are_rows(mode):
    """No matrix of every bag by every index is made of them."""

    class Bags(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bags = torch.nn.EmbeddingBag(9, 4, mode=mode)

        def forward(self, x):
            return self.bags(x)

    for inputs in ({"x": "int64[batch,5]"}, {"x": "int64[3,5]"}):
        model = dlbridge.load(Bags(), inputs=inputs)
        assert not any(node.op_type in ("MatMul", "Range") for node in model.graph)
        assert verify(model, routes=["pytorch", "onnx"], battery="quick", train_steps=None).passed


def test_padding_within_bags_counts_for_nothing():
    module = torch.nn.EmbeddingBag(9, 4, mode="mean", padding_idx=0)
    torch.nn.init.normal_(module.weight)  # a row of padding that is not zeros
    indices = torch.tensor([[0, 3, 0], [1, 2, 0]])
    made = dlbridge.load(module, inputs={"input": "int64[batch,3]"}).to_pytorch()
    assert torch.allclose(made(indices), module(indices), atol=1e-6)


def test_rows_that_are_too_long_are_shortened_when_they_are_looked_up():
    class Words(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(9, 4, max_norm=1.5, padding_idx=0)
            self.tags = torch.nn.Embedding(9, 4, max_norm=1.0, norm_type=1.0)
            self.bags = torch.nn.EmbeddingBag(9, 4, max_norm=1.2, mode="mean")

        def forward(self, x, y):
            return self.words(x), self.tags(y), self.bags(x), self.words(y)

    module = Words().eval()
    model = dlbridge.load(module, inputs={"x": "int64[batch,n]", "y": "int64[batch,m]"})
    made, held = model.to_pytorch(), {k: v.clone() for k, v in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for n, m in ((5, 3), (1, 1)):
        given = [torch.randint(9, (2, size), generator=generator) for size in (n, m)]
        for got, right in zip(made(*given), module(*given), strict=True):
            torch.testing.assert_close(got, right)
        module.load_state_dict(held)
    assert verify(model, routes=["onnx", "keras"], battery="quick", train_steps=None).passed


def test_indices_that_pytorch_does_not_count_from_the_end_are_printed_as_they_are():
    def moved(x, places):
        return x.gather(1, places) + torch.zeros_like(x).scatter_add(1, places, x)

    class Net(torch.nn.Module):
        def forward(self, x, places):
            return moved(x, places)

    model = dlbridge.load(Net(), inputs={"x": "float32[batch,5]", "places": "int64[batch,5]"})
    text = dlbridge.convert(model, "pytorch").text
    assert "torch.gather(x, 1, places)" in text
    assert "%" not in text
