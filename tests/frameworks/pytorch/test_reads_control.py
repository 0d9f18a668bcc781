"""Control flow in PyTorch: ``torch.cond``, ``while_loop``, ``scan`` and ``map`` become If, Loop and Scan, and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops import map as torch_map
from torch._higher_order_ops import scan, while_loop

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.verification.compare import relative_error


class Branches(nn.Module):
    """One of two layers, on something that is computed around them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x)
        return torch.cond(x.sum() > 0, lambda h: self.a(h), lambda h: self.b(h).relu() + h.shape[0], (h,))


class Dropped(nn.Module):
    """A dropout in a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda h: self.drop(h * 2), lambda h: -h, (x,))


class Pooled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool = nn.functional.max_pool1d, nn.functional.avg_pool1d
        return torch.cond(x.sum() > 0, lambda h: pool[0](h, 2), lambda h: pool[1](h, 3, 2, 1), (x,))


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def cleared(v: torch.Tensor) -> torch.Tensor:
            v = v.clone()
            v[:, 0] = 0
            return v

        return torch.cond(x.sum() > 0, cleared, lambda v: v.clone(), (x,))


class Until(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = (torch.tensor(0), x)
        return while_loop(lambda i, v: (i < 50) & (v.abs().sum() < 1e3), lambda i, v: (i + 1, v * 1.5 + 1), first)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def step(state: torch.Tensor, now: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tanh(self.cell(state)) + now, state + now

        last, steps = scan(step, torch.zeros_like(x[:, 0]), x.transpose(0, 1))
        return last, steps.transpose(0, 1)


class Rows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch_map(lambda row: row / (row.abs().max() + 1), x)


class Nested(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def step(i: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return i + 1, torch.cond(v.sum() > 0, lambda v: v - 1, lambda v: v * 0.5, (v,))

        return while_loop(lambda i, v: i < 3, step, (torch.tensor(0), x))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int | str, ...]]] = {
    "cond": (Branches, ("batch", 4)),
    "cond with a dropout": (Dropped, ("batch", 4)),
    "cond with poolings": (Pooled, ("batch", 3, 8)),
    "cond that writes in place": (InPlace, ("batch", 4)),
    "while_loop": (Until, ("batch", 4)),
    "scan": (Recurrent, ("batch", "time", 4)),
    "map": (Rows, ("batch", 4)),
    "a branch in a loop": (Nested, ("batch", 4)),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_it_runs_in_every_framework(case: str) -> None:
    torch.manual_seed(0)
    make, sizes = CASES[case]
    module = make().eval()
    read = dlbridge.load(module, inputs={"x": f"float32[{','.join(map(str, sizes))}]"})
    for name in ("onnx", "pytorch", "keras"):
        framework = frameworks.get(name)
        live = framework.load(framework.write(read))
        for sign in (1, -1):  # one of two branches
            x = sign * (torch.randn([s if isinstance(s, int) else 5 for s in sizes]) + 0.3)
            wanted = [v.numpy() for v in torch.utils._pytree.tree_leaves(module(x))]
            for got, right in zip(framework.run(live, {"x": x.numpy()}).values(), wanted, strict=True):
                assert got.dtype == right.dtype
                assert relative_error(got, right) < 2e-6, name
        if name == "pytorch":
            live.load_state_dict(module.state_dict(), strict=True)


def test_what_a_body_cannot_say_is_refused_where_it_stands() -> None:
    class Fourier(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.cond(x.sum() > 0, lambda x: torch.fft.fft(x), lambda x: torch.fft.fft(x) * 2, (x,))

    with pytest.raises(UnsupportedOpError, match="complex tensors"):
        dlbridge.load(Fourier(), inputs=(torch.randn(3, 4),))


class Wrapped(torch.nn.Module):
    """Runs a layer within a context."""

    def __init__(self, context):
        super().__init__()
        self.linear, self.context = torch.nn.Linear(3, 3), context

    def forward(self, x):
        if self.context is None:
            return torch.utils.checkpoint.checkpoint(self.linear, x, use_reentrant=False)
        with self.context():
            return self.linear(x)


CONTEXTS = {
    "a checkpoint": None,
    "no gradients": torch.no_grad,
    "autocast that is off": lambda: torch.autocast("cpu", enabled=False),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_what_runs_within_a_context_is_read_where_it_stands(name):
    model = dlbridge.load(Wrapped(CONTEXTS[name]), inputs={"x": "float32[batch,3]"})
    stopped = ["StopGradient"] if name == "no gradients" else []
    assert [node.op_type for node in model.graph] == ["Linear", *stopped]


def test_autocast_within_a_module_is_refused():
    net = Wrapped(lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    with pytest.raises(UnsupportedOpError, match=r"torch\.autocast within the model"):
        dlbridge.load(net, inputs={"x": "float32[batch,3]"})
