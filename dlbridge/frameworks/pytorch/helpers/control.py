"""Helpers of control flow."""

import torch


def loop(body, limit, states, condition=True, empty=()):
    """Runs body(i, condition, *states) -> (condition, *states, *outputs) up to limit times, while the condition holds.

    Gives the last states, and the outputs of all rounds stacked; where there is no round, empty.
    """
    rounds, i = [], 0
    while condition and (limit is None or i < limit):
        condition, *results = body(torch.tensor(i), torch.as_tensor(condition), *states)
        states, i = results[: len(states)], i + 1
        rounds.append(results[len(states) :])
    stacked = (torch.stack(outputs) for outputs in zip(*rounds, strict=True))
    return (*states, *(stacked if rounds else empty))


def scan(body, states, inputs, axes=None, backwards=None, output_axes=None, output_backwards=None):
    """Runs body(*states, *slices) -> (*states, *outputs) over the slices of the inputs; as loop, it stacks outputs."""
    axes, backwards = axes or [0] * len(inputs), backwards or [0] * len(inputs)
    slices = [x.unbind(axis)[:: -1 if back else 1] for x, axis, back in zip(inputs, axes, backwards, strict=True)]
    rounds = []
    for parts in zip(*slices, strict=True):
        results = body(*states, *parts)
        states = results[: len(states)]
        rounds.append(results[len(states) :])
    stacked = []
    for i, outputs in enumerate(zip(*rounds, strict=True)):
        step = -1 if output_backwards and output_backwards[i] else 1
        stacked.append(torch.stack(outputs[::step], output_axes[i] if output_axes else 0))
    return (*states, *stacked)
