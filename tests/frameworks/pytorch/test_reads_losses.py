"""Losses of PyTorch that are read by a formula: their values and gradients are torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dlbridge

pytestmark = pytest.mark.keras

nn = torch.nn


class Alignment(nn.Module):
    def __init__(self, normalised: bool = True, **options) -> None:
        super().__init__()
        self.normalised, self.options = normalised, options

    def forward(self, x, targets, given, wanted):
        x = x.log_softmax(-1) if self.normalised else x
        return F.ctc_loss(x, targets, given, wanted, **self.options)


TARGETS = torch.tensor([[1, 2, 2, 3], [3, 3, 3, 3], [2, 1, 0, 0]])
CTC = {
    "mean": ({}, TARGETS, [7, 7, 5], [4, 4, 2]),
    "each": ({"reduction": "none"}, TARGETS, [7, 7, 5], [4, 3, 2]),
    "one behind the other": ({"reduction": "sum"}, torch.tensor([1, 2, 3, 3, 1, 2]), [7, 6, 5], [3, 1, 2]),
    "another blank": ({"blank": 4, "reduction": "none"}, TARGETS, [7, 7, 7], [2, 4, 4]),
    "no target": ({"reduction": "none"}, TARGETS, [7, 7, 7], [0, 1, 2]),
    "impossible": ({"reduction": "none"}, TARGETS, [2, 7, 7], [4, 4, 1]),
    "impossible, without infinity": ({"reduction": "none", "zero_infinity": True}, TARGETS, [2, 7, 7], [4, 4, 1]),
    "no probabilities": ({"reduction": "none", "normalised": False}, TARGETS, [7, 7, 7], [4, 3, 2]),
}


@pytest.mark.parametrize("case", CTC)
def test_connectionist_temporal_classification(case):
    options, targets, given, wanted = CTC[case]
    torch.manual_seed(0)
    module, x = Alignment(**options), torch.randn(7, 3, 5)
    arguments = (x, targets, torch.tensor(given), torch.tensor(wanted))
    model = dlbridge.load(module, inputs=arguments, dynamic={})
    live = model.to_pytorch()
    torch.testing.assert_close(live(*arguments), module(*arguments), rtol=1e-5, atol=1e-5)
    arrays = [a.numpy() for a in arguments]
    answer = np.asarray(model.to_keras()(arrays))
    np.testing.assert_allclose(answer, module(*arguments).numpy(), rtol=1e-5, atol=1e-5)
    if case in ("impossible", "no probabilities"):
        return  # torch's own gradient is of probabilities
    gradients = []
    for each in (module, live):
        moving = x.clone().requires_grad_()
        each(moving, *arguments[1:]).sum().backward()
        gradients.append(moving.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6,), (4, 6)], ids=str)
def test_margins_of_several_labels(reduction, shape):
    torch.manual_seed(0)
    target = torch.stack([torch.tensor([3, 0, -1, 2, 1, 4])] * 4)[(0,) if len(shape) == 1 else slice(None)]
    module, x = nn.MultiLabelMarginLoss(reduction=reduction), torch.randn(shape)
    wanted = module(x, target)
    live = dlbridge.load(module, inputs=(x, target)).to_pytorch()
    torch.testing.assert_close(live(x, target), wanted)
