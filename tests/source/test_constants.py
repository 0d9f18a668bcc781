"""Constants that follow a rule are printed as what makes them, with the same numbers and the same shape."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.source import printing

TABLES = {
    "a column": (torch.arange(12.0)[:, None], "arange(12"),
    "whole numbers": (torch.arange(9), "arange(9"),
    "a grid": (torch.arange(12).reshape(3, 4), "arange(12"),
    "one number": (torch.full((3, 4), 2.5), "full("),
    "minus zero": (torch.tensor([-0.0, *range(1, 12)]), None),
    "few": (torch.arange(4.0), None),
    "small integers": (torch.arange(12, dtype=torch.int8), None),
}


class Table(nn.Module):
    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., None, None] * self.table


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
@pytest.mark.parametrize(("table", "call"), TABLES.values(), ids=TABLES)
def test_a_table(table: torch.Tensor, call: str | None, framework: str) -> None:
    if not frameworks.get(framework).is_installed:
        pytest.skip(f"{framework} is not installed")
    dtype = "float32" if table.dtype.is_floating_point else str(table.dtype).removeprefix("torch.")
    source = dlbridge.convert(Table(table).eval(), framework, read={"inputs": {"x": f"{dtype}[batch,2]"}})
    made = [line for line in source.text.splitlines() if "arange(" in line or "full(" in line]
    assert made == [] if call is None else len(made) == 1 and call in made[0], source.text


def test_sizes_that_fit_no_line_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limit:
        def __init__(self, text: str) -> None:
            self.text = text

    limits = [Limit(f"(h - {i}) // 16 + 1 == 2 * ((h - 1) // 32) + 2") for i in range(3)]
    monkeypatch.setattr(printing.traits, "constraints", lambda graph: limits)
    (found,) = printing.about_sizes(None)  # type: ignore[arg-type]
    assert found.lines() == ['"""For inputs of these sizes:', "", *(limit.text for limit in limits), '"""']
    limits[:] = [Limit("h <= 7"), Limit("w % 2 == 0")]
    (found,) = printing.about_sizes(None)  # type: ignore[arg-type]
    assert found.lines() == ['"""For inputs of these sizes: h <= 7, w % 2 == 0."""']


class Named(nn.Module):
    """Its code calls constants as its layers are called, and as every module has something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(4, 5)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.activation(self.key(x))
        key = torch.tensor([i * i % 5 for i in range(90)])
        y = y[:, key]
        activation = torch.tensor([i * i % 90 for i in range(80)])
        y = y[:, activation]
        training = torch.tensor([i * i % 80 for i in range(70)])
        return y[:, training]


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
def test_a_constant_takes_no_name_of_a_layer(framework: str) -> None:
    if not frameworks.get(framework).is_installed:
        pytest.skip(f"{framework} is not installed")
    module, x, written = Named().eval(), torch.randn(3, 4), frameworks.get(framework)
    live = written.load(written.write(dlbridge.load(module, inputs={"x": "float32[batch,4]"})))
    (y,) = written.run(live, {"x": x.numpy()}).values()
    np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
