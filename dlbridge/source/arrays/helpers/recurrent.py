"""Helpers of recurrent layers."""

from dlbridge.source.arrays import ops


def compact_steps(x, mask):
    """The steps of x that a mask (batch, time) keeps, in their order, before the others."""
    count = ops.shape(mask)[1]
    steps = ops.places(count, mask)
    order = ops.argsort(ops.where(mask, steps, steps + count))
    return ops.take_along_axis(x, ops.expand_dims(order, 2), axis=1)


def spread_steps(x, mask):
    """What is computed of compact steps, at its place: each step has that of the last one kept up to it, or 0."""
    place = ops.expand_dims(ops.cumsum(ops.cast(mask, "int32"), axis=1) - 1, 2)
    return ops.where(place >= 0, ops.take_along_axis(x, ops.maximum(place, 0), axis=1), 0.0)


def activation_by_name(name, alpha=None, beta=None):
    """An activation of ONNX's recurrent ops."""
    return {
        "sigmoid": ops.sigmoid,
        "tanh": ops.tanh,
        "relu": ops.relu,
        "softsign": ops.softsign,
        "softplus": ops.softplus,
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: ops.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: ops.where(x > alpha, x, ops.zeros_like(x)),
        "scaledtanh": lambda x: alpha * ops.tanh(beta * x),
        "hardsigmoid": lambda x: ops.clip(alpha * x + beta, 0, 1),
        "elu": lambda x: ops.elu(x, alpha),
    }[name]


def recurrence(step, x, states, lengths, direction, batch_first):
    """Runs step(direction, x, *states) -> new states along time; y and the last states in ONNX's layout."""
    x, *states = (ops.swapaxes(t, 0, 1) if batch_first else t for t in (x, *states))
    count = ops.shape(x)[0]
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    sequences, finals = [], []
    for d, backwards in enumerate(ways):

        def advance(carried, x, d=d, ahead=-1 if backwards else 1):
            t, *state = carried
            new = step(d, x, *state)
            y = new[0]
            if lengths is not None:
                active = ops.expand_dims(t < ops.cast(lengths, "int32"), 1)
                new = [ops.where(active, n, s) for n, s in zip(new, state, strict=True)]
                y = ops.where(active, y, ops.zeros_like(y))
            return [t + ahead, *new], [t, y, *new[1:]]  # TensorFlow's scan wants as many of both

        first = ops.cast(count - 1 if backwards else 0, "int32")
        (_, *final), (_, y, *_) = ops.scan(advance, [first, *(s[d] for s in states)], x, reverse=backwards)
        sequences.append(y)
        finals.append(final)
    y = ops.stack(sequences, axis=1)
    last = [ops.stack(s) for s in zip(*finals, strict=True)]
    if batch_first:
        return ops.transpose(y, (2, 0, 1, 3)), *(ops.swapaxes(s, 0, 1) for s in last)
    return y, *last


def onnx_recurrence(
    step,
    x,
    w,
    r,
    bias,
    lengths,
    states,
    usual,
    activations=None,
    direction="forward",
    clip=None,
    batch_first=False,
    one_bias=False,
):
    """Runs step(d, w, r, biases, activations, x, *states) -> new states of direction d along time; in ONNX's layout.

    The biases of the input and of the state are added up; where they are to train as one, that of the input does.
    """
    directions, rows, hidden = r.shape
    batch = ops.shape(x)[0 if batch_first else 1]
    zeros = ops.zeros((batch, directions, hidden) if batch_first else (directions, batch, hidden), x.dtype)
    biases = ops.zeros((directions, 2 * rows), x.dtype) if bias is None else bias
    of_input, of_state = ops.split(biases, 2, axis=1)
    of_state = ops.stop_gradient(of_state) if one_bias else of_state
    size = len(usual)
    chosen = [activation_by_name(*a) for a in activations or [(name,) for name in usual] * directions]
    if clip is not None:
        # As onnxruntime does: the gates alone are clipped, and not the cell that an LSTM's third activation reads.
        chosen = [f if i % size == 2 else lambda x, f=f: f(ops.clip(x, -clip, clip)) for i, f in enumerate(chosen)]

    def step_of(d, x, *states):
        biases = of_input[d], of_state[d]
        return step(d, ops.transpose(w[d]), ops.transpose(r[d]), biases, chosen[size * d : size * (d + 1)], x, *states)

    states = [zeros if s is None else s for s in states]
    return recurrence(step_of, x, states, lengths, direction, batch_first)


def onnx_rnn(x, w, r, bias=None, lengths=None, h=None, **options):
    """ONNX's RNN: h = f(x W' + h R' + b)."""

    def step(d, w, r, biases, activations, x, h):
        return [activations[0](x @ w + h @ r + sum(biases))]

    return onnx_recurrence(step, x, w, r, bias, lengths, [h], ["tanh"], **options)


def onnx_gru(x, w, r, bias=None, lengths=None, h=None, linear_before_reset=False, **options):
    """ONNX's GRU: gates z, r, h; h = (1 - z) * new + z * h."""

    def step(d, w, r, biases, activations, x, h):
        f, g = activations
        xz, xr, xh = ops.split(x @ w + biases[0], 3, axis=-1)
        wz, wr, wh = ops.split(r, 3, axis=-1)
        bz, br, bh = ops.split(biases[1], 3)
        update, reset = f(xz + h @ wz + bz), f(xr + h @ wr + br)
        new = g(xh + reset * (h @ wh + bh)) if linear_before_reset else g(xh + (reset * h) @ wh + bh)
        return [(1 - update) * new + update * h]

    return onnx_recurrence(step, x, w, r, bias, lengths, [h], ["sigmoid", "tanh"], **options)


def onnx_lstm(x, w, r, bias=None, lengths=None, h=None, c=None, peepholes=None, input_forget=False, **options):
    """ONNX's LSTM: gates i, o, f, c; peepholes i, o, f."""

    def step(d, w, r, biases, activations, x, h, c):
        f, g, last = activations
        into, out, forget, new = ops.split(x @ w + h @ r + sum(biases), 4, axis=-1)
        pi, po, pf = (0, 0, 0) if peepholes is None else ops.split(peepholes[d], 3)
        into = f(into + pi * c)
        forget = 1 - into if input_forget else f(forget + pf * c)
        c = forget * c + into * g(new)
        return [f(out + po * c) * last(c), c]

    return onnx_recurrence(step, x, w, r, bias, lengths, [h, c], ["sigmoid", "tanh", "tanh"], **options)
