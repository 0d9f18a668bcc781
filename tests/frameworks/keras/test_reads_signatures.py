"""What inputs a model has that was only called: any batch, and integers where nothing else is done with them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from dlbridge import frameworks
from tests.helpers.keras_reading import errors

read = frameworks.get("keras").read


def test_a_sequential_model_that_was_called_takes_any_batch():
    model = keras.Sequential([layers.Dense(4), layers.LSTM(2)])
    model(np.zeros((2, 5, 3), np.float32))
    found = read(model)
    assert [str(size) for size in found.inputs[0].shape] == ["batch", "5", "3"]
    assert errors(model, ("onnx", "keras"), read=found)["onnx"] <= 1e-6


class Words(keras.Model):
    def __init__(self, mask_zero, scaled=False):
        super().__init__(name="words")
        self.scaled = scaled
        self.embed, self.pool = layers.Embedding(7, 4, mask_zero=mask_zero), layers.GlobalAveragePooling1D()

    def call(self, ids):
        y = self.pool(self.embed(ids))
        return y * ops.mean(ids, axis=1, keepdims=True) if self.scaled else y


@pytest.mark.parametrize("mask_zero", [False, True])
def test_an_input_that_is_looked_up_is_of_integers(mask_zero):
    model = Words(mask_zero)
    model(np.zeros((2, 5), np.int32))
    found = read(model)
    assert str(found.inputs[0].dtype) == "INT32"
    assert errors(model, read=found)["onnx"] <= 1e-6


def test_an_input_that_is_computed_with_is_of_floats():
    model = Words(False, scaled=True)
    model(np.zeros((2, 5), np.float32))
    assert str(read(model).inputs[0].dtype) == "FLOAT"
