"""A layer of the user's is what it computes, and not what Keras' own layer of its name computes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import dlbridge
from dlbridge import frameworks
from dlbridge.ops import traits

IMAGE, STEPS, ROW = (6, 6, 3), (5, 4), (4,)


def check(layer, shape, inputs=1):
    """Read a model of the layer; what onnxruntime makes of it is what Keras does."""
    given = [keras.Input(shape, name=f"x{i}") for i in range(inputs)]
    live = keras.Model(given, layer(given if inputs > 1 else given[0]))
    arrays = [np.random.default_rng(i).normal(size=(2, *shape)).astype(np.float32) for i in range(inputs)]
    wanted = np.asarray(live(arrays))
    model = dlbridge.load(live)
    framework = frameworks.get("onnx")
    (found,) = framework.run(
        framework.load(framework.write(model)), {f"x{i}": a for i, a in enumerate(arrays)}
    ).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return model


# --- a class that is called as another ----------------------------------------------------------------------------

BASES = [
    *[(base, {}, IMAGE, 1) for base in ("GlobalAveragePooling2D", "GlobalMaxPooling2D", "UpSampling2D")],
    *[(base, {"pool_size": 2}, IMAGE, 1) for base in ("AveragePooling2D", "MaxPooling2D")],
    *[(base, {"output_size": 2}, IMAGE, 1) for base in ("AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D")],
    *[(base, {}, ROW, 2) for base in ("Add", "Multiply", "Subtract", "Maximum", "Minimum", "Average", "Concatenate")],
    *[(base, {}, ROW, 1) for base in ("BatchNormalization", "LayerNormalization", "Softmax", "ReLU")],
    *[(base, {"units": 3}, STEPS, 1) for base in ("LSTM", "GRU", "SimpleRNN")],
]
NAMES = ("MaxThing", "Add", "Maximum", "GlobalMaxPooling2D", "GRU", "Mine")


@pytest.mark.parametrize(("base", "options", "shape", "inputs"), BASES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_name_of_a_class_that_inherits_says_nothing(base, options, shape, inputs):
    own = getattr(layers, base)
    for name in NAMES:
        kind = type(name, (own,), {"__module__": "theirs"})
        model = check(kind(**options), shape, inputs)
        if base == "BatchNormalization":
            (node,) = model.graph
            assert node.metadata_props[traits.RUNNING_VARIANCE] == "biased"


# --- a class that computes otherwise ------------------------------------------------------------------------------


class Standardized(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel * 2) + 1


class Weighted(layers.Add):
    def _merge_function(self, inputs):
        return inputs[0] - 2 * inputs[1]


class Scaled(layers.Dense):
    @property
    def kernel(self):
        return super().kernel * 3


class Dense(layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs) + 7


class ReLU(layers.Layer):
    def call(self, x):
        return ops.negative(x)


@keras.saving.register_keras_serializable("theirs")  # which Bidirectional asks for
class LSTMCell(layers.LSTMCell):
    def call(self, inputs, states, training=False):
        hidden, carried = super().call(inputs, states, training=training)
        return hidden * 2, carried


def relu(x):
    return ops.negative(x)


OTHERWISE = {
    "convolution_op": (lambda: Standardized(2, 3), IMAGE, 1),
    "merge function": (lambda: Weighted(), ROW, 2),
    "property": (lambda: Scaled(3), ROW, 1),
    "call": (lambda: Dense(3), ROW, 1),
    "own class": (lambda: ReLU(), ROW, 1),
    "cell": (lambda: layers.RNN(LSTMCell(3)), STEPS, 1),
    "cells, stacked": (lambda: layers.RNN([layers.LSTMCell(2), LSTMCell(3)]), STEPS, 1),
    "cell, both ways": (lambda: layers.Bidirectional(layers.RNN(LSTMCell(3))), STEPS, 1),
    "activation": (lambda: layers.Dense(3, activation=relu), ROW, 1),
    "activation of a cell": (lambda: layers.LSTM(3, activation=relu), STEPS, 1),
    "gate of a cell": (lambda: layers.GRU(3, recurrent_activation=relu), STEPS, 1),
    "activation, both ways": (lambda: layers.Bidirectional(layers.LSTM(3, activation=relu)), STEPS, 1),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_a_class_or_function_of_the_user_computes_is_read(what):
    make, shape, inputs = OTHERWISE[what]
    check(make(), shape, inputs)


class Built(layers.Dense):
    def __init__(self, units, extra=1, **options):
        super().__init__(units, **options)
        self.extra = extra

    def build(self, input_shape):
        super().build(input_shape)
        self.built_with = input_shape

    def get_config(self):
        return {**super().get_config(), "extra": self.extra}


def test_a_class_that_only_builds_otherwise_stays_the_layer_that_it_is():
    assert [node.op_type for node in check(Built(3), ROW).graph] == ["Linear"]
