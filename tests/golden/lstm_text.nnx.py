import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def activation_by_name(name, alpha=None, beta=None):
    """An activation of ONNX's recurrent ops."""
    return {
        "sigmoid": nnx.sigmoid,
        "tanh": jnp.tanh,
        "relu": nnx.relu,
        "softsign": nnx.soft_sign,
        "softplus": nnx.softplus,
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: nnx.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: jnp.where(x > alpha, x, jnp.zeros_like(x)),
        "scaledtanh": lambda x: alpha * jnp.tanh(beta * x),
        "hardsigmoid": lambda x: jnp.clip(alpha * x + beta, 0, 1),
        "elu": lambda x: nnx.elu(x, alpha),
    }[name]


def recurrence(step, x, states, lengths, direction, batch_first):
    """Runs step(direction, x, *states) -> new states along time; y and the last states in ONNX's layout."""
    x, *states = (jnp.swapaxes(t, 0, 1) if batch_first else t for t in (x, *states))
    count = jnp.shape(x)[0]
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    sequences, finals = [], []
    for d, backwards in enumerate(ways):

        def advance(carried, x, d=d, ahead=-1 if backwards else 1):
            t, *state = carried
            new = step(d, x, *state)
            y = new[0]
            if lengths is not None:
                active = jnp.expand_dims(t < jnp.astype(lengths, "int32"), 1)
                new = [jnp.where(active, n, s) for n, s in zip(new, state, strict=True)]
                y = jnp.where(active, y, jnp.zeros_like(y))
            return [t + ahead, *new], [t, y, *new[1:]]  # TensorFlow's scan wants as many of both

        first = jnp.astype(count - 1 if backwards else 0, "int32")
        (_, *final), (_, y, *_) = jax.lax.scan(advance, [first, *(s[d] for s in states)], x, reverse=backwards)
        sequences.append(y)
        finals.append(final)
    y = jnp.stack(sequences, axis=1)
    last = [jnp.stack(s) for s in zip(*finals, strict=True)]
    if batch_first:
        return jnp.transpose(y, (2, 0, 1, 3)), *(jnp.swapaxes(s, 0, 1) for s in last)
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
    batch = jnp.shape(x)[0 if batch_first else 1]
    zeros = jnp.zeros((batch, directions, hidden) if batch_first else (directions, batch, hidden), x.dtype)
    biases = jnp.zeros((directions, 2 * rows), x.dtype) if bias is None else bias
    of_input, of_state = jnp.split(biases, 2, axis=1)
    of_state = jax.lax.stop_gradient(of_state) if one_bias else of_state
    size = len(usual)
    chosen = [activation_by_name(*a) for a in activations or [(name,) for name in usual] * directions]
    if clip is not None:
        # As onnxruntime does: the gates alone are clipped, and not the cell that an LSTM's third activation reads.
        chosen = [f if i % size == 2 else lambda x, f=f: f(jnp.clip(x, -clip, clip)) for i, f in enumerate(chosen)]

    def step_of(d, x, *states):
        biases = of_input[d], of_state[d]
        return step(d, jnp.transpose(w[d]), jnp.transpose(r[d]), biases, chosen[size * d : size * (d + 1)], x, *states)

    states = [zeros if s is None else s for s in states]
    return recurrence(step_of, x, states, lengths, direction, batch_first)


def onnx_lstm(x, w, r, bias=None, lengths=None, h=None, c=None, peepholes=None, input_forget=False, **options):
    """ONNX's LSTM: gates i, o, f, c; peepholes i, o, f."""

    def step(d, w, r, biases, activations, x, h, c):
        f, g, last = activations
        into, out, forget, new = jnp.split(x @ w + h @ r + sum(biases), 4, axis=-1)
        pi, po, pf = (0, 0, 0) if peepholes is None else jnp.split(peepholes[d], 3)
        into = f(into + pi * c)
        forget = 1 - into if input_forget else f(forget + pf * c)
        c = forget * c + into * g(new)
        return [f(out + po * c) * last(c), c]

    return onnx_recurrence(step, x, w, r, bias, lengths, [h, c], ["sigmoid", "tanh", "tanh"], **options)


class LstmText(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding1 = nnx.Embed(1000, 32, rngs=rngs)
        self.dropout1 = nnx.Dropout(0.3, rngs=rngs)
        self.classifier = nnx.Linear(96, 4, rngs=rngs)
        self.lstm = nnx.Module()
        self.lstm.weight_ih = nnx.Param(jnp.zeros((2, 192, 32)))
        self.lstm.weight_hh = nnx.Param(jnp.zeros((2, 192, 48)))
        self.lstm.bias = nnx.Param(jnp.zeros((2, 384)))

    def __call__(self, tokens):
        x = self.embedding1(tokens).transpose(1, 0, 2)
        _, x = onnx_lstm(
            x,
            self.lstm.weight_ih[...],
            self.lstm.weight_hh[...],
            bias=self.lstm.bias[...],
            direction="bidirectional",
            one_bias=True,
        )[:2]
        x = x.transpose(1, 0, 2)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout1(x)
        return self.classifier(x)


def train(model, tokens, label, epochs=10, batch_size=64):
    optimizer = nnx.Optimizer(
        model, optax.adamw(0.002, eps=1e-07, weight_decay=0.004), wrt=nnx.Param
    )

    def loss_of(model, tokens, label):
        output = model(tokens)
        return optax.softmax_cross_entropy_with_integer_labels(output, label).mean()

    @nnx.jit
    def step(model, optimizer, tokens, label):
        loss, gradients = nnx.value_and_grad(loss_of)(model, tokens, label)
        optimizer.update(model, gradients)
        return loss

    for epoch in range(epochs):
        model.train()
        order = np.random.permutation(len(label))
        for start in range(0, len(label), batch_size):
            rows = order[start : start + batch_size]
            loss = step(model, optimizer, tokens[rows], label[rows])
        print(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
