"""What usual layers of Keras are in PyTorch: the lines that a person would write, and the same numbers."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import dlbridge


def recurrent(*stack):
    given = keras.Input((None, 7), name="x")
    y = given
    for layer in stack:
        y = layer(y)
    return keras.Model(given, y, name="net"), np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)


def images(*stack):
    given = keras.Input((9, 8, 3), name="x")
    y = given
    for layer in stack:
        y = layer(y)
    return keras.Model(given, y, name="net"), np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype(np.float32)


class Positions(layers.Layer):
    def __init__(self):
        super().__init__(name="positions")
        self.table = layers.Embedding(5, 7, name="table")

    def call(self, x):
        return x + self.table(ops.arange(5))


def positions():
    given = keras.Input((5, 7), name="x")
    net = keras.Model(given, Positions()(given), name="net")
    return net, np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)


#: name -> (a model and its input, lines of its forward, words that are nowhere in the file).
MODELS = {
    "a stack": (
        lambda: recurrent(
            layers.LSTM(6, return_sequences=True, name="a"),
            layers.Dropout(0.5, name="drop"),
            layers.LSTM(4, return_sequences=True, name="b"),
            layers.SimpleRNN(3, name="c"),
        ),
        ["x, _ = self.a(x)", "x = self.drop(x)", "x, _ = self.b(x)", "_, x = self.c(x)"],
        "transpose",
    ),
    "both ways": (
        lambda: recurrent(
            layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="a"),
            layers.Bidirectional(layers.GRU(4, return_sequences=True), name="b"),
        ),
        ["x, _ = self.a(x)", "x, _ = self.b(x)", "return x"],
        "transpose chunk onnx",
    ),
    "both ways, added": (
        lambda: recurrent(layers.Bidirectional(layers.LSTM(6, return_sequences=True), merge_mode="sum", name="a")),
        [],
        "",
    ),
    "one that is called again": (
        lambda: (lambda lstm: recurrent(layers.Dense(6, name="d"), lstm, lstm))(
            layers.LSTM(6, return_sequences=True, name="a")
        ),
        ["x, _ = self.a(x)", "x, _ = self.a(x)"],
        "transpose",
    ),
    "the mean of a sequence": (
        lambda: recurrent(layers.GlobalAveragePooling1D()),
        ["return x.mean(1)"],
        "pool transpose",
    ),
    "the largest of a sequence": (
        lambda: recurrent(layers.GlobalMaxPooling1D()),
        ["return x.amax(1)"],
        "pool transpose",
    ),
    "the mean of an image": (
        lambda: images(layers.GlobalAveragePooling2D()),
        ["return x.mean((1, 2))"],
        "pool permute",
    ),
    "uneven pads": (
        lambda: images(layers.MaxPooling2D(3, strides=2, padding="same", name="a")),
        ['x = F.max_pool2d(F.pad(x, (0, 1, 1, 1), value=float("-inf")), 3, stride=2)'],
        "window",
    ),
    "an embedding of places": (positions, ["self.table = nn.Embedding(5, 7)", "self.table(self."], "Parameter"),
}


@pytest.mark.parametrize("name", MODELS)
def test_usual_layers_are_the_usual_lines(name):
    make, lines, nowhere = MODELS[name]
    keras.utils.set_random_seed(0)
    net, x = make()
    model = dlbridge.load(net)
    text = model.write("pytorch").text
    body = text[text.rindex("def forward") :]
    for line in lines:
        assert line in text, body
    for word in nowhere.split():
        assert word not in text, body
    made = model.to_pytorch()(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(made, net(x), atol=1e-5)
