"""Recurrent and attention layers of Keras with all their options, and masks, which no layer may forget."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from tests.helpers.keras_reading import errors, inputs_of, randomise

read = frameworks.get("keras").read
KINDS = {"rnn": L.SimpleRNN, "lstm": L.LSTM, "gru": L.GRU}
ALL = ("onnx", "pytorch", "keras")


def sequences(function, shape=(7, 4)):
    x = keras.Input(shape, name="x")
    return randomise(keras.Model(x, function(x)))


def tokens(function, length=7):
    """A model of numbers from 0 to 4 that an embedding masks where they are zero."""
    x = keras.Input((length,), dtype="int32", name="x")
    return randomise(keras.Model(x, function(L.Embedding(5, 8, mask_zero=True, name="embed")(x))))


OPTIONS = {
    "last": lambda kind, x: kind(5)(x),
    "sequence and states": lambda kind, x: kind(5, return_sequences=True, return_state=True)(x),
    "backwards": lambda kind, x: kind(5, return_sequences=True, go_backwards=True)(x),
    "unrolled, with dropout": lambda kind, x: kind(5, unroll=True, dropout=0.2, recurrent_dropout=0.2)(x),
    "no bias, relu": lambda kind, x: kind(5, use_bias=False, activation="relu")(x),
    "both ways": lambda kind, x: L.Bidirectional(kind(5, return_sequences=True))(x),
    "both ways, summed, with states": lambda kind, x: L.Bidirectional(kind(5, return_state=True), merge_mode="sum")(x),
    "both ways, apart": lambda kind, x: L.Bidirectional(kind(5), merge_mode=None)(x),
    "both ways, average": lambda kind, x: L.Bidirectional(kind(5), merge_mode="ave")(x),
    "both ways, another backward": lambda kind, x: L.Bidirectional(
        kind(5, return_sequences=True), backward_layer=kind(3, return_sequences=True, go_backwards=True)
    )(x),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent(kind, name):
    assert errors(sequences(lambda x: OPTIONS[name](KINDS[kind], x)))["onnx"] <= 2e-6


OTHERS = {
    "gru, reset before": lambda x: L.GRU(5, reset_after=False)(x),
    "lstm, hard sigmoid": lambda x: L.LSTM(5, recurrent_activation="hard_sigmoid")(x),
    "lstm, an activation that ONNX lacks": lambda x: L.LSTM(5, activation="silu")(x),
    "lstm, elu and linear": lambda x: L.LSTM(5, activation="elu", recurrent_activation="hard_sigmoid")(x),
    "lstm, elu alone": lambda x: L.LSTM(5, activation="elu")(x),
    "gru, linear": lambda x: L.GRU(5, activation="linear", recurrent_activation="softsign")(x),
    "rnn, leaky relu both ways": lambda x: L.Bidirectional(L.SimpleRNN(5, activation="leaky_relu"))(x),
    "cells on each other": lambda x: L.RNN([L.LSTMCell(5), L.GRUCell(4)], return_sequences=True, return_state=True)(x),
    "masking": lambda x: L.LSTM(5, return_sequences=True)(L.Masking(0.0)(L.ReLU()(x))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_recurrent(name):
    assert errors(sequences(OTHERS[name]))["onnx"] <= 2e-6


def test_initial_states():
    def function(x):
        states = [L.Dense(5)(x[:, 0]), L.Dense(5)(x[:, 1])]
        return L.LSTM(5, return_sequences=True)(x, initial_state=states)

    assert errors(sequences(function))["onnx"] <= 2e-6


def test_convolutional_lstm():
    model = sequences(lambda x: L.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(x), (3, 5, 6, 2))
    assert errors(model)["onnx"] <= 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_to_every_framework(kind):
    model = sequences(
        lambda x: L.Bidirectional(KINDS[kind](5, return_sequences=True))(KINDS[kind](4, return_sequences=True)(x))
    )
    assert max(errors(model, ALL).values()) <= 1e-5


def test_a_stateful_layer_is_refused():
    x = keras.Input(batch_shape=(2, 7, 4), name="x")
    with pytest.raises(UnsupportedOpError, match="stateful"):
        read(keras.Model(x, L.LSTM(3, stateful=True, name="memory")(x)))


MASKED = {
    "rnn": lambda e: L.SimpleRNN(3, return_sequences=True)(e),
    "lstm": lambda e: L.LSTM(3, return_sequences=True, return_state=True)(e),
    "gru": lambda e: L.GRU(3, return_state=True)(e),
    "backwards": lambda e: L.GRU(3, return_sequences=True, go_backwards=True)(e),
    "both ways": lambda e: L.Bidirectional(L.LSTM(3, return_sequences=True))(e),
    "both ways, last": lambda e: L.Bidirectional(L.GRU(3))(e),
    "zero output": lambda e: L.RNN(L.GRUCell(3), return_sequences=True, zero_output_for_mask=True)(e),
    "a mask that goes on": lambda e: L.GRU(3)(L.Bidirectional(L.GRU(3, return_sequences=True))(e)),
    "through plain layers": lambda e: L.LSTM(3)(L.Dropout(0.2)(L.ReLU()(L.LayerNormalization()(e)))),
    "added": lambda e: L.LSTM(3)(L.Add()([e, L.Dense(8)(e)])),
    "joined": lambda e: L.LSTM(3, return_sequences=True)(L.Concatenate(axis=1)([e, e])),
    "at each step": lambda e: L.LSTM(3)(L.TimeDistributed(L.Dense(4))(e)),
    "destroyed by a convolution": lambda e: L.LSTM(3)(L.Conv1D(4, 2)(e)),
    "pooled": lambda e: L.GlobalAveragePooling1D()(e),
    "attention": lambda e: L.Attention(use_scale=True)([e, e]),
    "additive attention": lambda e: L.AdditiveAttention()([e, e]),
    "heads": lambda e: L.MultiHeadAttention(2, 4)(e, e),
    "heads, causal": lambda e: L.MultiHeadAttention(2, 4)(e, e, use_causal_mask=True),
    "heads, then recurrent": lambda e: L.LSTM(3)(L.MultiHeadAttention(2, 4)(e, e)),
    "heads, with scores": lambda e: list(L.MultiHeadAttention(2, 4)(e, e, return_attention_scores=True)),
    "groups": lambda e: L.GroupQueryAttention(4, 4, 2)(e, e, use_causal_mask=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MASKED)
def test_masks(name):
    model = tokens(MASKED[name])
    found = read(model)
    data = inputs_of(found)
    data["x"][0, :3] = 0  # zeros at the start, at the end, and a sequence of nothing else
    data["x"][1, 4:] = 0
    if "pooled" not in name and "attention" not in name:
        data["x"][2] = 0
    assert errors(model, data=data, read=found)["onnx"] <= 2e-6


HEADS = {
    "plain": lambda x: L.MultiHeadAttention(2, 4)(x, x),
    "sizes": lambda x: L.MultiHeadAttention(2, 4, value_dim=3, output_shape=5, use_bias=False)(x, x),
    "causal": lambda x: L.MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True),
    "scores": lambda x: list(L.MultiHeadAttention(2, 4)(x, x, return_attention_scores=True)),
    "key of its own": lambda x: L.MultiHeadAttention(2, 4)(x, L.Dense(8)(x), L.Dense(6)(x)),
    "mask": lambda x: L.MultiHeadAttention(2, 4)(
        x, x, attention_mask=keras.ops.greater(keras.ops.einsum("btd,bsd->bts", x, x), 0.0)
    ),
    "sliding window": lambda x: L.MultiHeadAttention(2, 4, sliding_window=2)(x, x),
    "gate": lambda x: L.MultiHeadAttention(2, 4, use_gate=True)(x, x),
    "groups": lambda x: L.GroupQueryAttention(4, 4, 2)(x, x),
    "dot": lambda x: L.Attention(use_scale=True, score_mode="concat")([x, x]),
    "dot, causal": lambda x: L.Attention()([x, x], use_causal_mask=True),
}


@pytest.mark.parametrize("name", HEADS)
def test_attention(name):
    assert errors(sequences(HEADS[name], (6, 8)))["onnx"] <= 2e-6


def test_attention_over_images():
    model = sequences(lambda x: L.MultiHeadAttention(2, 4, attention_axes=(2,))(x, x), (3, 6, 8))
    assert errors(model)["onnx"] <= 2e-6


def test_attention_to_every_framework_at_any_length():
    model = sequences(lambda x: L.MultiHeadAttention(2, 4, name="heads")(x, x, use_causal_mask=True), (None, 8))
    found = read(model)
    assert {"heads.query.weight", "heads.attention_output.bias"} <= set(found.graph.initializers)
    assert max(errors(model, ALL, x_1=9).values()) <= 1e-5


def test_time_may_be_unknown():
    model = sequences(lambda x: L.TimeDistributed(L.Dense(3))(L.LSTM(5, return_sequences=True)(x)), (None, 4))
    for length in (1, 9):
        assert errors(model, x_1=length)["onnx"] <= 2e-6


def test_gates_are_where_the_standard_has_them():
    model = sequences(lambda x: L.LSTM(2, name="lstm")(x), (3, 4))
    kernel = keras.ops.convert_to_numpy(model.get_layer("lstm").cell.kernel).T  # i f c o
    parts = np.split(kernel, 4)
    np.testing.assert_array_equal(
        read(model).weights["lstm.weight_ih"][0], np.concatenate([parts[i] for i in (0, 3, 1, 2)])
    )


@pytest.mark.parametrize(
    "name", ["lstm, elu and linear", "lstm, elu alone", "gru, linear", "rnn, leaky relu both ways"]
)
def test_other_activations_to_keras(name):
    assert errors(sequences(OTHERS[name]), ("keras",))["keras"] <= 1e-6


def test_states_of_masked_sequences_to_every_framework():
    model = tokens(lambda e: L.LSTM(3, return_sequences=True, return_state=True)(e))
    found = read(model)
    data = {"x": np.array([[0, 0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 0, 0, 0], [0] * 7], np.int32)}
    assert max(errors(model, ALL, data=data, read=found).values()) <= 1e-6
