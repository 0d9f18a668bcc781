"""What is written into a part of a tensor, through a view of it or by indices, with a batch that is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks


def _chained(y):
    view = y.transpose(1, 2)
    view[:, 1].add_(1)
    view.mul_(2)


def _read_after(y):
    before = y[:, 1:]
    y[:, 2] = 5.0
    y[:, 0] = before.sum(1)


def _parts(y):
    first, rest = y.split([1, 3], 1)
    y.mul_(2)
    rest[:] = first


#: What is done to a tensor (batch, 4, 6).
WRITES = {
    "a view of other sizes": lambda y: y.view(y.shape[0], 24)[:, 3].mul_(2),
    "a further axis": lambda y: y.unsqueeze(1)[:, 0, 2].zero_(),
    "a turned matrix": lambda y: y[:, :, 0].t()[1].fill_(3),
    "turned matrices": lambda y: y.mT[:, 1].fill_(3),
    "axes in another order": lambda y: y.permute(2, 0, 1)[1].fill_(3),
    "a piece": lambda y: y.narrow(1, 1, 2).fill_(3),
    "one of several parts": lambda y: y.split(4, -1)[1].fill_(3),
    "one of all slices": lambda y: y.unbind(dim=2)[-1].mul_(3),
    "parts at places": lambda y: y.tensor_split((1, 4), 2)[1].mul_(3),
    "each second row": lambda y: y[1::2].mul_(3),
    "a view of a view": _chained,
    "a base whose view is read after": _read_after,
    "parts of a base that is written to": _parts,
    "where a condition of rows holds": lambda y: y.__setitem__(y[:, :, 0] > 0, 0.0),
    "rows by numbers": lambda y: y.__setitem__((slice(None), torch.tensor([0, 2])), torch.arange(6.0)),
    "columns by numbers": lambda y: y.__setitem__((..., torch.tensor([0, 2])), torch.tensor([7.0, 8.0])),
    "columns by more numbers": lambda y: y.__setitem__((..., torch.tensor([0, 2])), y[:, :, :2] * 9),
    "elements by numbers": lambda y: y.__setitem__((slice(None), [0, 2], [1, 3]), torch.tensor([7.0, 8.0])),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes(name):
    class Net(torch.nn.Module):
        def forward(self, x):
            made = x.clone()
            WRITES[name](made)
            return made

    model = dlbridge.load(Net(), inputs={"x": "float32[batch,4,6]"})
    live = model.to_pytorch()
    for batch in (2, 3):
        x = torch.randn(batch, 4, 6, generator=torch.Generator().manual_seed(0))
        (answer,) = frameworks.get("pytorch").run(live, {"x": x.numpy()}).values()
        np.testing.assert_array_equal(answer, Net()(x))
