"""Batch and instance norm in training mode, with every option, as modules and as functions: outputs and statistics."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dlbridge

nn = torch.nn


class Own(nn.Module):
    """Calls the function itself, with its own weights and statistics."""

    def __init__(self, function, moves) -> None:
        super().__init__()
        self.function, self.moves = function, moves
        self.weight, self.bias = nn.Parameter(torch.rand(3) + 0.5), nn.Parameter(torch.randn(3))
        self.register_buffer("running_mean", torch.randn(3))
        self.register_buffer("running_var", torch.rand(3) + 0.5)

    def forward(self, x):
        mode = self.training if self.moves else False
        given = (x, self.running_mean, self.running_var, self.weight, self.bias)
        return self.function(*given, mode, 0.3, 1e-4)


class Guarded(nn.Module):
    """Keeps its batch norm in eval mode, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)

    def train(self, mode=True):
        super().train(mode)
        self.bn.eval()
        self.drop.eval()
        return self

    def forward(self, x):
        return self.drop(self.bn(x))


def options():
    for kind, affine, tracks, momentum in itertools.product(
        (nn.BatchNorm1d, nn.InstanceNorm1d), (True, False), (True, False), (0.1, 0.4, None)
    ):
        if momentum is not None or (kind is nn.BatchNorm1d and tracks):
            yield kind(3, affine=affine, track_running_stats=tracks, momentum=momentum)


CASES = {
    **{f"{m}": m for m in options()},
    "F.batch_norm": Own(F.batch_norm, True),
    "F.batch_norm, never training": Own(F.batch_norm, False),
    "F.instance_norm": Own(F.instance_norm, True),
    "train of its own": Guarded(),
}


@pytest.mark.parametrize("around", ["root", "in Sequential"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_statistics_in_training(case, around):
    torch.manual_seed(0)
    part = copy.deepcopy(CASES[case])
    with torch.no_grad():
        for value in part.buffers():
            value.add_(torch.rand_like(value) if value.is_floating_point() else 2)
    module = nn.Sequential(nn.Conv1d(3, 3, 1), part) if around == "in Sequential" else part
    x = torch.randn(4, 3, 5) * torch.arange(1, 5).reshape(4, 1, 1) + 2
    model = dlbridge.load(module, inputs=(x,))
    original, live = copy.deepcopy(module).train(), model.to_pytorch().train()
    live.load_state_dict(module.state_dict(), strict=True)
    for _ in range(2):
        torch.testing.assert_close(live(x), original(x))
    for name, value in original.named_buffers():
        torch.testing.assert_close(live.state_dict()[name], value, msg=name)
    written = model.to_keras()
    for _ in range(2):
        answer = np.asarray(written(x.numpy(), training=True))
    again = copy.deepcopy(module).train()
    wanted = [again(x) for _ in range(2)][-1].detach().numpy()
    np.testing.assert_allclose(answer, wanted, atol=2e-5)
    statistics = {k: v.numpy() for k, v in again.state_dict().items() if "running" in k}
    from dlbridge.frameworks.keras.runner import weights

    found = written.dlbridge_source.initializers({k: np.array(a) for k, a in weights(written).items()})
    for name, value in statistics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_parts_in_eval_mode_stay_so_while_the_rest_trains():
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)), nn.BatchNorm2d(4))
    module.train()[0].eval()
    model = dlbridge.load(module, inputs=(torch.randn(2, 3, 4, 4),))
    assert not [n for n in model.graph if n.op_type == "Dropout"]
    text = model.write("pytorch").text
    assert "FrozenBatchNorm2d(4)" in text
    assert "nn.BatchNorm2d(4)" in text
    everything = dlbridge.load(module.eval(), inputs=(torch.randn(2, 3, 4, 4),))
    assert "FrozenBatchNorm" not in everything.write("pytorch").text
