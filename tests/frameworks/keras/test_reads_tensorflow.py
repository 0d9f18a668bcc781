"""Layers whose code calls TensorFlow: their variables stay variables, found by what they are, not by their numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from tests.helpers.keras_reading import errors

read = frameworks.get("keras").read


def kinds(model):
    """Kind -> the sorted names of the weights of that kind, constants left out."""
    found = {}
    for name, value in model.graph.initializers.items():
        if traits.kind(value) != "constant":
            found.setdefault(traits.kind(value), []).append(name)
    return {kind: sorted(names) for kind, names in found.items()}


class Scaled(L.Layer):
    """A weight that is used in an expression, twice, and one of equal numbers."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")
        self.shift = self.add_weight(name="shift", shape=(shape[-1],), initializer="ones")
        self.steps = self.add_weight(name="steps", shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, x):
        return tf.tanh(x * (1.0 + self.scale)) * self.scale + tf.math.exp(self.shift) * self.steps


class Holding(L.Layer):
    """Layers, a list of weights and a dict of weights in attributes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(4)

    def build(self, shape):
        self.inner.build(shape)
        self.rows = [self.add_weight(name=f"row_{i}", shape=(4,), initializer="ones") for i in range(2)]
        self.named = {"a": self.add_weight(name="a", shape=(4,), initializer="zeros")}

    def call(self, x):
        return tf.nn.relu(self.inner(x)) * self.rows[0] + tf.sin(self.rows[1]) + self.named["a"]


class Raw(L.Layer):
    """A variable of TensorFlow's own, which Keras does not train."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.offset = tf.Variable(np.arange(4, dtype="float32"), name="offset")

    def call(self, x):
        return tf.math.sinh(x) + self.offset


class Traced(L.Layer):
    """A method that is a function of TensorFlow, which has traced it before."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="random_normal")

    @tf.function
    def scaled(self, x):
        return tf.math.sinh(x) * self.scale

    def call(self, x):
        return self.scaled(x)


class Tied(L.Layer):
    """The weight of another layer."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def call(self, x):
        return tf.matmul(tf.math.sinh(x), self.other.kernel, transpose_b=True)


class Pools(L.Layer):
    """Code that asks for a mask, and hands one on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        y = tf.math.sinh(x)
        return y if mask is None else tf.where(mask[..., tf.newaxis], y, -1.0)


class Adds(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return tf.math.sinh(x) * self.scale


def _model(layer, size=4):
    keras.utils.set_random_seed(0)
    x = keras.Input((size,), name="x")
    return keras.Model(x, layer(x))


def test_weights_of_equal_numbers_are_themselves():
    model = _model(Scaled(name="scaled"))
    assert kinds(read(model)) == {
        "parameter": ["scaled.scale", "scaled.shift"],
        "buffer": ["scaled.steps"],
    }
    assert max(errors(model, ("onnx", "pytorch", "keras")).values()) <= 1e-6


def test_weights_in_lists_and_layers():
    model = _model(Holding(name="holding"))
    found = kinds(read(model))
    assert len(found["parameter"]) == 5
    assert errors(model)["onnx"] <= 1e-6


def test_a_variable_of_tensorflow_is_kept_and_does_not_train():
    model = _model(Raw(name="raw"))
    assert kinds(read(model)) == {"buffer": ["raw.offset"]}
    assert errors(model)["onnx"] <= 1e-6


def test_a_variable_of_tensorflow_in_code_of_keras():
    class Plain(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.offset = tf.Variable(np.arange(4, dtype="float32"), name="offset")

        def call(self, x):
            return keras.ops.exp(x) + self.offset

    model = _model(Plain(name="plain"))
    assert kinds(read(model)) == {"buffer": ["plain.offset"]}
    assert errors(model)["onnx"] <= 1e-6


def test_a_method_that_tensorflow_has_traced():
    layer = Traced(name="traced")
    model = _model(layer)
    model(np.zeros((2, 4), "float32"))
    assert kinds(read(model)) == {"parameter": ["traced.scale"]}
    assert errors(model)["onnx"] <= 1e-6


@pytest.mark.parametrize("first", [True, False])
def test_a_tied_weight_is_one(first):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    dense = L.Dense(3, use_bias=False, name="dense")
    hidden = dense(x)
    model = keras.Model(x, Tied(dense, name="tied")(hidden) if first else [Tied(dense, name="tied")(hidden), hidden])
    found = read(model)
    assert kinds(found) == {"parameter": ["dense.weight"]}
    assert max(errors(model, ("onnx", "pytorch", "keras")).values()) <= 1e-6
    live = found.to_pytorch()
    assert sum(p.numel() for p in live.parameters()) == 12


def test_a_variable_that_a_function_closes_over_is_refused():
    hidden = tf.Variable(np.ones(4, "float32"), name="hidden")

    class Closes(L.Layer):
        def call(self, x):
            return tf.math.sinh(x) * hidden

    with pytest.raises(UnsupportedOpError, match="hidden"):
        read(_model(Closes(name="closes")))


def test_a_keras_variable_of_no_layer():
    loose = keras.Variable(np.ones(4, "float32"), name="loose")

    class Closes(L.Layer):
        def call(self, x):
            return tf.math.sinh(x) * (loose + 1.0)

    model = _model(Closes(name="closes"))
    assert kinds(read(model)) == {"parameter": ["loose"]}
    assert errors(model)["onnx"] <= 1e-6


@pytest.mark.filterwarnings("ignore")
def test_masks_in_and_out():
    keras.utils.set_random_seed(0)
    x = keras.Input((5,), dtype="int32", name="x")
    e = L.Embedding(9, 4, mask_zero=True)(x)
    model = keras.Model(x, [L.LSTM(3)(Pools()(e)), L.GlobalAveragePooling1D()(Pools()(e))])
    data = {"x": np.array([[1, 2, 0, 0, 0], [3, 0, 4, 5, 0], [1, 2, 3, 4, 5]], "int32")}
    assert errors(model, data=data)["onnx"] <= 3e-6


def test_reading_leaves_the_layer_as_it_was():
    layer = Scaled(name="scaled")
    model = _model(layer)
    before = {name: id(item) for name, item in vars(layer).items()}
    calls = len(layer._inbound_nodes)
    read(model)
    assert {name: id(item) for name, item in vars(layer).items()} == before
    assert len(layer._inbound_nodes) == calls
    assert all(isinstance(v, keras.Variable) for v in (layer.scale, layer.shift, layer.steps))
