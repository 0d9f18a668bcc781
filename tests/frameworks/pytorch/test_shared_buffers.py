"""A buffer that several modules hold: what one of them writes to it, the others read."""

import numpy as np
import torch
from torch import nn

import dlbridge


class Part(nn.Module):
    def __init__(self, buffer, writes):
        super().__init__()
        self.register_buffer("total", buffer)
        self.writes = writes

    def forward(self, x):
        if self.writes:
            self.total.add_(x.sum())
        return x * self.total


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        total = torch.ones(1)
        self.first, self.second = Part(total, True), Part(total, False)

    def forward(self, x):
        return self.second(self.first(x))


def test_what_one_module_writes_another_reads():
    x = torch.randn(2, 3)
    model = dlbridge.load(Net().eval(), inputs={"x": "float32[batch,3]"})
    torch.testing.assert_close(model.to_pytorch()(x), Net()(x))
    assert np.abs(np.asarray(model.to_keras()(x.numpy())) - Net()(x).numpy()).max() < 1e-5
