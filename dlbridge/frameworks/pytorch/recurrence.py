"""Keeps LSTM, GRU and RNN whole while ``torch.export`` traces them, with the length of the sequences dynamic.

Traced as they are, torch walks the time steps one by one, which fixes their number. So ``nn.LSTM`` and the like call
ops of our own meanwhile: the same computation, of which the tracer sees the sizes alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.nn.modules import rnn

_OPTIONS = "bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
_library = torch.library.Library("dlbridge", "DEF")


def _sizes(x: torch.Tensor, parameters: list[torch.Tensor], options: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """Shapes of the outputs and of each final state."""
    _, layers, _, _, bidirectional, batch_first = options
    hidden, directions = parameters[1].shape[1], 2 if bidirectional else 1
    batch = [] if x.dim() == 2 else [x.shape[0 if batch_first else 1]]
    return [*x.shape[:-1], hidden * directions], [layers * directions, *batch, hidden]


def _fake_lstm(x: torch.Tensor, hx: list[torch.Tensor], parameters: list[torch.Tensor], *options: Any) -> Any:
    output, state = _sizes(x, parameters, options)  # with a projection (proj_size), what is handed on is smaller
    cell = [*state[:-1], parameters[1].shape[0] // 4]
    return x.new_empty(output), x.new_empty(state), x.new_empty(cell)


def _fake(x: torch.Tensor, hx: torch.Tensor, parameters: list[torch.Tensor], *options: Any) -> Any:
    output, state = _sizes(x, parameters, options)
    return x.new_empty(output), x.new_empty(state)


def _define(name: str, hx: str, results: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    _library.define(f"{name}(Tensor input, {hx} hx, Tensor[] params, {_OPTIONS}) -> ({results})")
    own = getattr(torch._VF, name)

    def run(x: torch.Tensor, states: Any, parameters: Any, *options: Any) -> Any:
        return tuple(v.clone() for v in own(x, states, parameters, *options))

    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"dlbridge::{name}", fake, lib=_library)
    return getattr(torch.ops.dlbridge, name)


_OPS = {
    "lstm": _define("lstm", "Tensor[]", "Tensor, Tensor, Tensor", _fake_lstm),
    "gru": _define("gru", "Tensor", "Tensor, Tensor", _fake),
    "rnn_tanh": _define("rnn_tanh", "Tensor", "Tensor, Tensor", _fake),
    "rnn_relu": _define("rnn_relu", "Tensor", "Tensor, Tensor", _fake),
}


class _Functions:
    """torch's own functions, but for the recurrent ones on plain tensors (packed sequences have other arguments)."""

    def __getattr__(self, name: str) -> Any:
        own, ours = getattr(torch._VF, name), _OPS.get(name)
        if ours is None:
            return own

        def call(*arguments: Any) -> Any:
            packed = isinstance(arguments[3], (list, tuple))
            return own(*arguments) if packed else ours(*arguments)

        return call


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """While this is on, recurrent layers are traced as one op each."""
    functions = _Functions()
    named = {"RNN_TANH": functions.rnn_tanh, "RNN_RELU": functions.rnn_relu}
    with mock.patch.object(rnn, "_VF", functions), mock.patch.dict(rnn._rnn_impls, named):
        yield
