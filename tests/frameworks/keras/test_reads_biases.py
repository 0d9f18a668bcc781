"""Keras on TensorFlow adds some vectors along another axis, as biases; what is read is what it computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from dlbridge import frameworks
from tests.helpers.keras_reading import errors, randomise

read = frameworks.get("keras").read

#: What a layer of x (2, 3, 4, 3) makes, and whether Keras adds it along the axis that it lies on.
SUMS = {
    "a vector at the second axis": lambda x: ops.add(x, ops.reshape(ops.arange(3.0), (1, 3, 1, 1))),
    "a vector at the last axis": lambda x: ops.add(x, ops.arange(3.0)),
    "a vector of another length": lambda x: ops.add(x, ops.reshape(ops.arange(4.0), (4, 1))),
    "an operator": lambda x: x + ops.reshape(ops.arange(3.0), (3, 1, 1)),
    "a tensor of the input": lambda x: ops.add(x[:1] * 2, x[:1, :, :1, :1]),
}


class Made(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_is_that_of_keras(name):
    x = keras.Input(batch_shape=(2, 3, 4, 3), name="x")
    model = keras.Model(x, Made(SUMS[name])(x))
    data = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)}
    assert errors(model, data=data)["onnx"] <= 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2D(6, 3, strides=2, padding="same", data_format="channels_first"),
        lambda: layers.Conv2DTranspose(22, 3, strides=2, padding="same", data_format="channels_first"),
        lambda: layers.Conv2D(5, 3, padding="same", data_format="channels_first"),
        lambda: layers.Conv2D(11, 3, padding="same", data_format="channels_first", use_bias=False),
    ],
)
def test_a_bias_of_a_channels_first_layer_goes_where_keras_adds_it(layer):
    x = keras.Input((3, 9, 11), name="x")
    model = randomise(keras.Model(x, layer()(x)))
    assert max(errors(model, ("onnx", "pytorch", "keras", "nnx")).values()) <= 1e-5
