"""Custom layers that are given sizes and caches: sizes stay sizes, and what a call returns is what its code returns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from tests.helpers.keras_reading import errors

read = frameworks.get("keras").read


class Shifted(layers.Layer):
    """Adds a size that it is given, said in several ways."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, x, count):
        if self.how == "tensorflow":
            return tf.identity(x) + 2 * tf.cast(count, "float32")
        if self.how == "cast":
            return x + ops.cast(count, "float32")
        if self.how == "convert_to_tensor":
            return x + ops.cast(ops.convert_to_tensor(count), "float32")
        if self.how == "numpy":
            return x + np.float32(int(count))
        places = ops.arange(ops.shape(x)[1]) if self.how == "add" else ops.arange(ops.shape(x)[1], dtype="float32")
        return x + ops.cast(places[:, None] + count, "float32")


class Passes(layers.Layer):
    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.inner = Shifted(how, name="inner")

    def call(self, x):
        return self.inner(x, count=ops.shape(x)[1])

    def compute_output_shape(self, shape):
        return shape


def around(layer, shape=(None, 4)):
    x = keras.Input(shape, name="x")
    return keras.Model(x, layer(x))


@pytest.mark.parametrize("how", ["cast", "convert_to_tensor", "add", "add to a float", "tensorflow"])
def test_a_size_that_is_passed_to_a_layer_is_that_of_each_input(how):
    model = around(Passes(how))
    found = read(model)
    for length in (3, 6):
        assert errors(model, read=found, x_1=length)["onnx"] <= 1e-6


def test_a_number_that_is_made_of_a_size_is_no_constant():
    with pytest.raises(UnsupportedOpError, match="depends on sizes that are not known"):
        read(around(Passes("numpy")))


class Kept(layers.Layer):
    """Returns what it was given too, as layers with a cache do; its statement tells of the first result alone."""

    def call(self, x, cache=None):
        joined = ops.concatenate([x, cache], axis=1)
        return ops.sum(joined, axis=1, keepdims=True) + x, joined

    def compute_output_shape(self, x_shape):
        return x_shape


class Says(layers.Layer):
    def call(self, x):
        return x * 2.0

    def compute_output_shape(self, shape):
        return shape


class SaysForAnother(Says):
    """Its statement is that of the class that it inherits."""

    def call(self, x):
        return x * 2.0, ops.sum(x, axis=1)


class Holder(layers.Layer):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.inner = layer

    def call(self, x):
        given = (x,) if isinstance(self.inner, Says) else (x, x + 1.0)
        first, second = self.inner(*given)
        return ops.sum(first, axis=1) + ops.sum(ops.reshape(second, (ops.shape(x)[0], -1, 4)), axis=1)

    def compute_output_shape(self, shape):
        return (shape[0], shape[-1])


@pytest.mark.parametrize("kind", [Kept, SaysForAnother])
def test_a_layer_returns_what_its_code_returns(kind):
    x = keras.Input((None, 4), name="x")
    model = keras.Model(x, Holder(kind(name="inner"), name="holder")(x))
    found = read(model)
    for length in (3, 6):
        assert errors(model, read=found, x_1=length)["onnx"] <= 1e-5


class Writes(layers.Layer):
    """Writes a tensor of unknown length into another one."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, x):
        batch, time = ops.shape(x)[:2]
        wide = ops.concatenate([x + 1.0, x + 2.0, ops.ones((batch, 1, 4))], axis=1)
        if self.how == "everything":
            return ops.slice_update(x, (0, 0, 0), x * 3.0)
        if self.how == "beyond":
            return ops.slice_update(x, (0, 2, 0), x)
        return ops.slice_update(wide, (0, {"front": 0, "middle": time, "end": time + 1}[self.how], 0), x * 3.0)

    def compute_output_shape(self, shape):
        return shape if self.how in ("everything", "beyond") else (shape[0], None, shape[2])


@pytest.mark.parametrize("how", ["front", "middle", "end", "everything"])
def test_what_is_written_into_a_tensor_is_joined_with_what_is_around_it(how):
    model = around(Writes(how))
    found = read(model)
    assert "ScatterND" not in {node.op_type for node in found.graph}
    for length in (3, 6):
        assert errors(model, read=found, x_1=length)["onnx"] <= 1e-6


def test_what_may_not_fit_is_refused():
    with pytest.raises(UnsupportedOpError, match="not known that it fits"):
        read(around(Writes("beyond")))
