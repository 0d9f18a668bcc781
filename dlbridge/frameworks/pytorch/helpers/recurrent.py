"""Helpers of recurrent layers."""

import torch
import torch.nn.functional as F
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


def activation_by_name(name, alpha=None, beta=None):
    """An activation of ONNX's recurrent ops."""
    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softsign": F.softsign,
        "softplus": F.softplus,
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: F.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: F.threshold(x, alpha, 0),
        "scaledtanh": lambda x: alpha * torch.tanh(beta * x),
        "hardsigmoid": lambda x: torch.clamp(alpha * x + beta, 0, 1),
        "elu": lambda x: F.elu(x, alpha),
    }[name]


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


def recurrent_parts(x, r, bias, batch_first, activations, default, clip, one_bias):
    """What the three recurrences share: zeros for a state, biases by direction, activations by direction.

    The biases of the input and of the state are added up; where they are to train as one, that of the input does.
    """
    directions, rows, hidden = r.shape
    size = len(default)
    batch = x.shape[0 if batch_first else 1]
    zeros = x.new_zeros((batch, directions, hidden) if batch_first else (directions, batch, hidden))
    biases = x.new_zeros(directions, 2 * rows) if bias is None else bias
    chosen = [activation_by_name(*a) for a in activations or [(name,) for name in default] * directions]
    if clip is not None:
        # As onnxruntime does: the gates alone are clipped, and not the cell that an LSTM's third activation reads.
        chosen = [f if i % size == 2 else lambda x, f=f: f(x.clamp(-clip, clip)) for i, f in enumerate(chosen)]
    of_input, of_state = biases.split(rows, 1)
    of_state = of_state.detach() if one_bias else of_state
    return zeros, (of_input, of_state), [chosen[size * d : size * (d + 1)] for d in range(directions)]


def onnx_rnn(
    x,
    w,
    r,
    bias=None,
    lengths=None,
    h=None,
    activations=None,
    direction="forward",
    clip=None,
    batch_first=False,
    one_bias=False,
):
    """ONNX's RNN: h = f(x W' + h R' + b)."""
    zeros, (wb, rb), gates = recurrent_parts(x, r, bias, batch_first, activations, ["tanh"], clip, one_bias)

    def step(d, x, h):
        return [gates[d][0](x @ w[d].T + wb[d] + h @ r[d].T + rb[d])]

    return recurrence(step, x, [zeros if h is None else h], lengths, direction, batch_first)


def onnx_gru(
    x,
    w,
    r,
    bias=None,
    lengths=None,
    h=None,
    activations=None,
    direction="forward",
    clip=None,
    linear_before_reset=False,
    batch_first=False,
    one_bias=False,
):
    """ONNX's GRU: gates z, r, h; h = (1 - z) * new + z * h."""
    zeros, (wb, rb), gates = recurrent_parts(x, r, bias, batch_first, activations, ["sigmoid", "tanh"], clip, one_bias)

    def step(d, x, h):
        f, g = gates[d]
        xz, xr, xh = (x @ w[d].T + wb[d]).chunk(3, -1)
        wz, wr, wh = r[d].chunk(3)
        bz, br, bh = rb[d].chunk(3)
        update, reset = f(xz + h @ wz.T + bz), f(xr + h @ wr.T + br)
        new = g(xh + reset * (h @ wh.T + bh)) if linear_before_reset else g(xh + (reset * h) @ wh.T + bh)
        return [(1 - update) * new + update * h]

    return recurrence(step, x, [zeros if h is None else h], lengths, direction, batch_first)


def onnx_lstm(
    x,
    w,
    r,
    bias=None,
    lengths=None,
    h=None,
    c=None,
    peepholes=None,
    activations=None,
    direction="forward",
    clip=None,
    input_forget=False,
    batch_first=False,
    one_bias=False,
):
    """ONNX's LSTM: gates i, o, f, c; peepholes i, o, f."""
    default = ["sigmoid", "tanh", "tanh"]
    zeros, (wb, rb), gates = recurrent_parts(x, r, bias, batch_first, activations, default, clip, one_bias)
    peepholes = x.new_zeros(len(r), 3 * r.shape[2]) if peepholes is None else peepholes

    def step(d, x, h, c):
        f, g, last = gates[d]
        into, out, forget, new = (x @ w[d].T + wb[d] + h @ r[d].T + rb[d]).chunk(4, -1)
        pi, po, pf = peepholes[d].chunk(3)
        into = f(into + pi * c)
        forget = 1 - into if input_forget else f(forget + pf * c)
        c = forget * c + into * g(new)
        return [f(out + po * c) * last(c), c]

    return recurrence(step, x, [zeros if h is None else h, zeros if c is None else c], lengths, direction, batch_first)
