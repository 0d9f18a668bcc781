"""LSTM with proj_size, in all its options, into all targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks

OPTIONS = {
    "one layer": {},
    "batch first": {"batch_first": True},
    "two layers": {"num_layers": 2, "dropout": 0.3},
    "both directions": {"bidirectional": True, "batch_first": True},
    "two layers in both directions": {"bidirectional": True, "num_layers": 2},
    "no biases": {"bias": False},
}


class Net(nn.Module):
    def __init__(self, given: bool, **options):
        super().__init__()
        self.lstm, self.given = nn.LSTM(5, 8, proj_size=3, **options), given
        self.places = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)

    def forward(self, x):
        if not self.given:
            y, (h, c) = self.lstm(x)
            return y, h, c
        states = [x.mean() * torch.ones(self.places, x.shape[0 if self.lstm.batch_first else 1], n) for n in (3, 8)]
        return self.lstm(x, tuple(states))[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_projection(name):
    torch.manual_seed(0)
    given = "both" in name  # else from zero, with the last states
    net = Net(given, **OPTIONS[name]).eval()
    first = OPTIONS[name].get("batch_first")
    model = dlbridge.load(net, inputs={"x": "float32[batch,time,5]" if first else "float32[time,batch,5]"})
    lives = {t: frameworks.get(t).load(frameworks.get(t).write(model)) for t in ("pytorch", "keras", "onnx")}
    for shape in ((3, 7, 5), (4, 2, 5)):
        x = torch.randn(shape)
        wanted = net(x)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for target, live in lives.items():
            answers = frameworks.get(target).run(live, {"x": x.numpy()}).values()
            for answer, right in zip(answers, wanted, strict=True):
                np.testing.assert_allclose(answer, right.detach().numpy(), 1e-5, 1e-5, err_msg=target)
    names = {n for n, _ in net.named_parameters()}
    assert names == {n for n, _ in model.to_pytorch().named_parameters()}
