"""Modules that are called more than once: PyTorch's code has them once, and calls them; the numbers stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
        self.out = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.stem(x).mean((2, 3)))


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = Base(), nn.Linear(4, 1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.head((self.base(a) - self.base(b)).abs())


class Steps(nn.Module):
    """A cell in a loop; the first state is made here, the later ones by the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.size(0), 6)
        found = []
        for step in range(4):
            h, c = self.cell(x[:, step], (h, c))
            found.append(self.out(h))
        return torch.stack(found, 1)


class Pyramid(nn.Module):
    """One head on maps of several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)])
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for down in self.down:
            x = down(x).relu()
            found.append(self.head(x).flatten(2))
        return torch.cat(found, 2)


class Pair(nn.Module):
    """Two results, of which the calls use different ones, and a call in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.inner(torch.tanh(self.inner(x)))
        return y, self.outer(y)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, _ = self.pair(x)
        _, second = self.pair(first)
        third, fourth = self.pair(x + second)
        return third * fourth


class Masked(nn.Module):
    """Calls that do different things with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Gated()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x) + self.part(x, x > 0)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(8, 8), nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.linear(x) * self.scale
        return y if mask is None else y.masked_fill(mask, 0.0)


class Borrowed(nn.Module):
    """A module that another part of the model calls too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Holder(), Holder()
        self.second.part = self.first.part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) + self.first.part(x)


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part, self.own = Gated(), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(torch.relu(self.part(x)))


class Decoding(nn.Module):
    """A decoder in a loop, whose last state nothing reads; a number that is new in each call stands beside what it
    reads."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.first = Decoder(), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, found = self.first(x[:, 0]), []
        for step in range(3):
            y, state = self.step(x[:, step], state)
            found.append(y)
        return torch.stack(found, 1)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(9, 6, batch_first=True), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([x, 0.5 * torch.ones_like(x[:, :1])], 1)
        y, state = self.rnn(x.unsqueeze(1), state.unsqueeze(0))
        return self.out(y.squeeze(1)), torch.tanh(state.squeeze(0))


#: Module, shapes of its inputs, pieces of the code (none where the calls are not alike).
CASES = {
    "siamese": (Siamese, [(2, 3, 9, 9), (2, 3, 9, 9)], ["self.base(a)", "self.base(b)", "def forward(self, x):"]),
    "a cell in a loop": (Steps, [(2, 4, 8)], ["self.cell(", "self.out("]),
    "a head on a pyramid": (Pyramid, [(2, 3, 32, 32)], ["= self.head(x)", "def forward(self, x):"]),
    "a decoder in a loop": (
        Decoding,
        [(2, 3, 8)],
        ["for i in range(3):", "= self.step(", "class Decoder", "self.rnn(x, "],
    ),
    "other results": (Both, [(3, 8)], []),
    "other code": (Masked, [(3, 8)], []),
    "in another module": (Borrowed, [(3, 8)], []),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_and_the_state_dict_stay(case: str) -> None:
    make, shapes, pieces = CASES[case]
    torch.manual_seed(0)
    module = make().eval()
    model = dlbridge.load(module, inputs=tuple(torch.randn(*shape) for shape in shapes))
    text = model.write("pytorch").text
    assert all(piece in text for piece in pieces), text
    fresh = [torch.randn(5, *shape[1:]) for shape in shapes]
    wanted = module(*fresh).detach().numpy()
    for name in ("pytorch", "keras", "onnx"):
        framework = frameworks.get(name)
        live = framework.load(framework.write(model))
        given = {v.name: x.numpy() for v, x in zip(model.inputs, fresh, strict=True)}
        (found,) = framework.run(live, given).values()
        assert relative_error(found, wanted) < 2e-6, name
        if name == "pytorch":
            live.load_state_dict(module.state_dict(), strict=True)
            assert relative_error(framework.run(live, given)[model.outputs[0].name], wanted) < 2e-6


def test_statistics_are_updated_once_for_each_call_in_its_order() -> None:
    torch.manual_seed(0)
    module = Siamese()
    given = [torch.randn(4, 3, 9, 9), 3 * torch.randn(4, 3, 9, 9) + 1]
    live = dlbridge.load(copy.deepcopy(module).eval(), inputs=tuple(given)).to_pytorch().train()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(*given), module.train()(*given))
    for name, buffer in module.named_buffers():
        if "running" in name:
            torch.testing.assert_close(dict(live.named_buffers())[name], buffer)


def test_a_cell_is_one_class_however_often_it_is_called() -> None:
    text = dlbridge.load(Steps().eval(), inputs=(torch.randn(2, 4, 8),)).write("pytorch").text
    assert text.count("class LSTMCell") == 1
    assert text.count("for i in range(4):") == text.count("self.cell(") == text.count("self.out(") == 1
    assert len(text.splitlines()) < 70


def test_the_last_of_several_calls_is_a_call_though_nothing_reads_its_state() -> None:
    text = dlbridge.load(Decoding().eval(), inputs=(torch.randn(2, 3, 8),)).write("pytorch").text
    assert text.count("for i in range(3):") == text.count("self.step(") == 1
    assert text.count("self.rnn(") == text.count("torch.ones(") + text.count("torch.full(") == 1
