"""What layers do in training alone and no written form keeps is told when a model is read."""

from __future__ import annotations

import warnings

import keras
import pytest
from keras import layers, ops

from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning

read = frameworks.get("keras").read


class DropPath(layers.Layer):
    def __init__(self):
        super().__init__(name="path")
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        return x * keras.random.uniform((ops.shape(x)[0], 1), seed=self.seed) if training else x


class Scaled(layers.Layer):
    def call(self, x, training=False):
        return x * 2 if training else x


class Mean(layers.Layer):
    def build(self, shape):
        self.mean = self.add_weight(name="mean", shape=(shape[-1],), trainable=False)

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, 0))
        return x - self.mean


class PassesOn(layers.Layer):
    def __init__(self):
        super().__init__(name="plain")
        self.drop, self.norm, self.dense = layers.Dropout(0.2), layers.BatchNormalization(), layers.Dense(6)

    def call(self, x, training=False):
        return self.dense(self.norm(self.drop(x, training=training), training=training))


def told(layer, shape=(6,)):
    x = keras.Input(shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(keras.Model(x, layer(x)))
    return [str(one.message) for one in caught if isinstance(one.message, DlbridgeWarning)]


@pytest.mark.parametrize("layer", [DropPath, lambda: Scaled(name="path"), lambda: Mean(name="path")])
def test_code_that_does_something_else_in_training_is_told(layer):
    (message,) = told(layer())
    assert message.endswith("path: its code does something else in training")


def test_code_that_passes_training_on_is_not():
    assert not told(PassesOn())


def test_dropout_within_recurrence_and_attention_is_told():
    (message,) = told(layers.LSTM(3, dropout=0.2, recurrent_dropout=0.1, name="lstm"), (4, 6))
    assert message.endswith("lstm: its dropout of 0.2; lstm: its recurrent_dropout of 0.1")
    assert not told(layers.Dropout(0.5))


def test_dropout_of_attention_is_kept_or_told():
    """Layers of many heads keep it (``tests/training/test_attention_dropout.py``)."""
    attention = layers.Attention(dropout=0.3, name="attention")
    (message,) = told(lambda x: attention([x, x]), (4, 6))
    assert message.endswith("attention: its dropout of 0.3")
    heads = layers.MultiHeadAttention(2, 3, dropout=0.3)
    assert not told(lambda x: heads(x, x), (4, 6))
