"""Keeps LSTM, GRU and RNN whole while ``torch.export`` traces them, with the length of the sequences dynamic.

Traced as they are, torch walks the time steps one by one, which fixes their number. So ``nn.LSTM`` and the like call
ops of our own meanwhile: the same computation, of which the tracer sees the sizes alone. Packed sequences, which are as
long as their lengths say, are packed and padded again by ops of our own too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.nn.modules import rnn

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.export import own_ops

_OPTIONS = "bool has_biases, int num_layers, float dropout, bool train, bool bidirectional"
#: PyTorch function -> what is called instead while a module is traced.
INSTEAD: dict[Any, Callable[..., Any]] = {}
#: Attribute of the batch sizes of a packed sequence: how many sequences there are.
_BATCH = "_dlbridge_batch"


def _sizes(x: torch.Tensor, parameters: list[torch.Tensor], options: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """Shapes of the outputs and of each final state."""
    _, layers, _, _, bidirectional, batch_first = options
    hidden, directions = parameters[1].shape[1], 2 if bidirectional else 1
    batch = x.shape[0 if batch_first else 1]
    return [*x.shape[:-1], hidden * directions], [layers * directions, batch, hidden]


def _fake_lstm(x: torch.Tensor, hx: list[torch.Tensor], parameters: list[torch.Tensor], *options: Any) -> Any:
    output, state = _sizes(x, parameters, options)  # with a projection (proj_size), what is handed on is smaller
    cell = [*state[:-1], parameters[1].shape[0] // 4]
    return x.new_empty(output), x.new_empty(state), x.new_empty(cell)


def _fake(x: torch.Tensor, hx: torch.Tensor, parameters: list[torch.Tensor], *options: Any) -> Any:
    output, state = _sizes(x, parameters, options)
    return x.new_empty(output), x.new_empty(state)


def _fake_packed(x: torch.Tensor, batch_sizes: torch.Tensor, hx: Any, parameters: Any, *options: Any) -> Any:
    states = hx if isinstance(hx, (list, tuple)) else [hx]
    width = parameters[1].shape[1] * (2 if options[4] else 1)
    return (x.new_empty([x.shape[0], width]), *(s.new_empty(s.shape) for s in states))


def _define(name: str, hx: str, results: str, fake: Callable[..., Any]) -> None:
    own = getattr(compat.functions, name)

    def run(*arguments: Any) -> Any:
        return tuple(v.clone() for v in own(*arguments))

    padded = f"(Tensor input, {hx} hx, Tensor[] params, {_OPTIONS}, bool batch_first) -> ({results})"
    packed = f"(Tensor data, Tensor batch_sizes, {hx} hx, Tensor[] params, {_OPTIONS}) -> ({results})"
    own_ops.define(f"{name}{padded}", run, fake)
    own_ops.define(f"{name}_packed{packed}", run, _fake_packed)
    plain, of_packed = getattr(torch.ops.dlbridge, name), getattr(torch.ops.dlbridge, f"{name}_packed")

    def call(function: Any, *arguments: Any) -> Any:
        if not isinstance(arguments[3], (list, tuple)):
            return plain(*arguments)
        parameters, has_biases, layers, bidirectional = (arguments[i] for i in (3, 4, 5, 8))
        is_projected = len(parameters) != layers * (2 if bidirectional else 1) * (4 if has_biases else 2)
        return function(*arguments) if is_projected else of_packed(*arguments)

    INSTEAD[own] = call


_define("lstm", "Tensor[]", "Tensor, Tensor, Tensor", _fake_lstm)
_define("gru", "Tensor", "Tensor, Tensor", _fake)
_define("rnn_tanh", "Tensor", "Tensor, Tensor", _fake)
_define("rnn_relu", "Tensor", "Tensor, Tensor", _fake)


# --- packed sequences -------------------------------------------------------------------------------------------------


def _fake_pack(x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
    context = torch.library.get_ctx()
    rows, steps = context.new_dynamic_size(min=1), context.new_dynamic_size(min=1)
    return x.new_empty([rows, *x.shape[2:]]), lengths.new_empty([steps])


def _fake_pad(data: torch.Tensor, sizes: torch.Tensor, batch: Any, first: bool, value: float, total: Any) -> Any:
    front = [batch, total] if first else [total, batch]
    return data.new_empty([*front, *data.shape[1:]]), sizes.new_empty([batch])


own_ops.define(
    "pack_padded_sequence(Tensor input, Tensor lengths, bool batch_first) -> (Tensor, Tensor)",
    lambda x, lengths, batch_first: compat.functions._pack_padded_sequence(x.contiguous(), lengths, batch_first),
    _fake_pack,
)
own_ops.define(
    "pad_packed_sequence(Tensor data, Tensor batch_sizes, SymInt batch, bool batch_first, float padding_value, "
    "SymInt total_length) -> (Tensor, Tensor)",
    lambda data, sizes, batch, first, value, total: tuple(
        v.clone() for v in compat.functions._pad_packed_sequence(data, sizes, first, value, total)
    ),
    _fake_pad,
)


def _pack(function: Any, x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
    batch, time = x.shape[0 if batch_first else 1], x.shape[1 if batch_first else 0]
    torch._check(lengths.shape[0] == batch)
    data, batch_sizes = torch.ops.dlbridge.pack_padded_sequence(x, lengths, batch_first)
    torch._check(batch_sizes.shape[0] <= time)
    setattr(batch_sizes, _BATCH, batch)
    return data, batch_sizes


def _pad(function: Any, data: torch.Tensor, batch_sizes: torch.Tensor, *rest: Any) -> Any:
    batch = getattr(batch_sizes, _BATCH, None)
    if batch is None:
        return function(data, batch_sizes, *rest)
    return torch.ops.dlbridge.pad_packed_sequence(data, batch_sizes, batch, *rest)


def _item(function: Any, tensor: torch.Tensor, index: Any) -> Any:
    """``batch_sizes[0]``, with which torch makes the initial states, is how many sequences there are."""
    batch = getattr(tensor, _BATCH, None)
    return batch if batch is not None and isinstance(index, int) and index == 0 else function(tensor, index)


@contextlib.contextmanager
def packed(module: torch.nn.Module) -> Iterator[None]:
    """While this is on, recurrent layers of the module do not check packed sequences: that would fix their number."""

    def unchecked(part: rnn.RNNBase) -> Callable[..., None]:
        own = part.check_forward_args
        return lambda x, hidden, batch_sizes: own(x, hidden, batch_sizes) if batch_sizes is None else None

    with contextlib.ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, rnn.RNNBase):
                stack.enter_context(mock.patch.object(part, "check_forward_args", unchecked(part)))
        yield


INSTEAD[compat.functions._pack_padded_sequence] = _pack
INSTEAD[compat.functions._pad_packed_sequence] = _pad
INSTEAD[torch.Tensor.__getitem__] = _item
