"""Models that go step by step, in each framework: a loop is printed, and what is written agrees with the original."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import dlbridge
from dlbridge import frameworks


class Decoder(nn.Module):
    """Backwards in time, with a module that is called in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = []
        for i in reversed(range(5)):
            h, c = self.cell(x[:, i], (h, c))
            made.append(self.out(h))
        return torch.stack(made[::-1], 1), c


class Scan(nn.Module):
    """A state that is a weight's product, and that is returned too."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, made = torch.zeros_like(x[:, 0]), []
        for i in range(x.shape[1]):
            h = torch.tanh(self.decay * h + x[:, i])
            made.append(h * 2)
        return torch.stack(made, -1), h


class Sinkhorn(nn.Module):
    """Nothing counts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(6):
            x = x / x.sum(1, keepdim=True)
            x = x / x.sum(2, keepdim=True)
        return x


STATE = {"h": "float32[batch,5]", "c": "float32[batch,5]"}
MODELS = {
    "decoder": (Decoder, {"x": "float32[batch,5,4]", **STATE}, "for i in range(4, -1, -1):"),
    "scan": (Scan, {"x": "float32[batch,7,4]"}, "for i in range(7):"),
    "sinkhorn": (Sinkhorn, {"x": "float32[batch,4,4]"}, "for _ in range(6):"),
}


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
@pytest.mark.parametrize(("make", "inputs", "loop"), MODELS.values(), ids=MODELS)
def test_a_loop_is_printed_and_computes_the_same(
    make: type[nn.Module], inputs: dict[str, str], loop: str, framework: str
) -> None:
    if not frameworks.get(framework).is_installed:
        pytest.skip(f"{framework} is not installed")
    torch.manual_seed(0)
    source = dlbridge.convert(make().eval(), framework, read={"inputs": inputs})  # compares it with the original
    assert source.text.count(loop) == 1
    assert ("stack(outputs" in source.text) == (make is not Sinkhorn)
