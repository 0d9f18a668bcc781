"""Recurrent layers that skip masked steps: what is printed of them in Keras and in PyTorch."""

import keras
import numpy as np
import pytest
from keras import layers

import dlbridge
from dlbridge import frameworks

LENGTHS = np.array([[3, 1, 0, 0, 0], [0, 0, 4, 0, 2], [0, 0, 0, 0, 0], [5, 1, 2, 3, 4]], "int32")


def text_model(*rest):
    given = keras.Input((None,), dtype="int32", name="words")
    y = layers.Embedding(9, 4, mask_zero=True, name="table")(given)
    for layer in rest:
        y = layer(y)
    return keras.Model(given, y, name="text")


def stack():
    return text_model(layers.LSTM(3, return_sequences=True, name="lower"), layers.GRU(2, name="upper"))


MODELS = {
    "a stack": stack,
    "both ways": lambda: text_model(layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")),
    "both ways, the last": lambda: text_model(layers.Bidirectional(layers.GRU(3), name="both")),
    "zeros": lambda: text_model(layers.SimpleRNN(3, return_sequences=True, zero_output_for_mask=True, name="rnn")),
    "zeros, the last": lambda: text_model(layers.SimpleRNN(3, zero_output_for_mask=True, name="rnn")),
    "with its state": lambda: text_model(layers.LSTM(3, return_state=True, name="lstm"), lambda found: found[2]),
    "backwards": lambda: text_model(layers.LSTM(3, go_backwards=True, return_sequences=True, name="lstm")),
}


@pytest.mark.parametrize("framework", [f for f in ("pytorch", "keras", "nnx") if f in frameworks.names()])
@pytest.mark.parametrize("name", MODELS)
def test_masked_steps_are_skipped(name, framework):
    keras.utils.set_random_seed(0)
    net = MODELS[name]()
    model = dlbridge.load(net)
    live = frameworks.get(framework).load(model.write(framework))
    (made,) = frameworks.get(framework).run(live, {"words": LENGTHS}).values()
    np.testing.assert_allclose(made, net(LENGTHS), atol=1e-6)


def body(text, name):
    lines = text[text.index(f"    def {name}" if f"    def {name}" in text else f"def {name}") :].splitlines()[1:]
    return [line.strip() for line in lines]


def test_keras_is_given_the_mask():
    assert body(dlbridge.load(stack()).write("keras").text, "build_model") == [
        'inputs = keras.Input((None,), dtype="int32", name="words")',
        "mask = ops.not_equal(inputs, 0)",
        'x = layers.Embedding(9, 4, name="table")(inputs)',
        'x = layers.LSTM(3, return_sequences=True, name="lower")(x, mask=mask)',
        'x = layers.GRU(2, name="upper")(x, mask=mask)',
        'return keras.Model(inputs, x, name="text")',
    ]


def test_pytorch_moves_the_steps_away_and_back():
    source = dlbridge.load(stack()).write("pytorch")
    assert body(source.text, "forward") == [
        "mask = words != 0",
        "x = self.table(words)",
        "x = compact_steps(x, mask)",
        "x, _ = self.lower(x)",
        "x = spread_steps(x, mask)",
        "x = compact_steps(x, mask)",
        "x, _ = self.upper(x)",
        "x = spread_steps(x, mask)",
        "return x[:, -1]",
    ]


def test_a_mask_of_another_call_stays_with_it():
    """The steps that another mask leaves out stay where they are."""
    words, other = keras.Input((5,), dtype="int32", name="words"), keras.Input((5,), dtype="bool", name="other")
    table, rnn = layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3, return_sequences=True)
    y = layers.LSTM(2)(rnn(table(words)), mask=other)
    net, mask = keras.Model([words, other], y), LENGTHS[::-1] > 1
    live = dlbridge.load(net).to_keras()
    np.testing.assert_allclose(live([LENGTHS, mask]), net([LENGTHS, mask]), atol=1e-6)
