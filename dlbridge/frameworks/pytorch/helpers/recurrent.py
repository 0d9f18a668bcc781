"""Helpers of recurrent layers."""

import torch
from torch import nn


def packed(layer, x, lengths, states=None):
    """Runs a recurrent layer on sequences of several lengths; what lies beyond a sequence's end is 0."""
    time = 1 if layer.batch_first else 0
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), layer.batch_first, enforce_sorted=False)
    y, states = layer(sequences, states)
    y, _ = nn.utils.rnn.pad_packed_sequence(y, layer.batch_first, total_length=x.shape[time])
    return y, states


def onnx_outputs(result, directions, batch_first=False, backwards=False):
    """A recurrent layer's outputs in ONNX's layout: y (time, directions, batch, hidden), then the last states."""
    y, states = result
    states = states if isinstance(states, tuple) else (states,)
    y = y.unflatten(-1, (directions, -1))
    if backwards:
        y = y.flip(1 if batch_first else 0)
    if batch_first:
        return y, *(s.transpose(0, 1) for s in states)
    return y.transpose(1, 2), *states


def recurrence(step, x, states, lengths, direction, batch_first):
    """Runs step(direction, x, *states) -> new states along time; y and the last states in ONNX's layout."""
    x = x.transpose(0, 1) if batch_first else x
    states = [s.transpose(0, 1) for s in states] if batch_first else states
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    sequences, finals = [], []
    for d, backwards in enumerate(ways):
        state, ys = [s[d] for s in states], []
        for t in range(len(x) - 1, -1, -1) if backwards else range(len(x)):
            new = step(d, x[t], *state)
            y = new[0]
            if lengths is not None:
                active = (t < lengths).view(-1, 1)
                new = [torch.where(active, n, s) for n, s in zip(new, state, strict=True)]
                y = torch.where(active, y, 0)
            state = new
            ys.append(y)
        sequences.append(torch.stack(ys[::-1] if backwards else ys))
        finals.append(state)
    y = torch.stack(sequences, 1)
    last = [torch.stack(s) for s in zip(*finals, strict=True)]
    return (y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last)) if batch_first else (y, *last)
