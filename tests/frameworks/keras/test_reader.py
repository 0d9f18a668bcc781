"""The Keras reader: whole models, names, kinds of weights, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from tests.helpers.keras_reading import errors, randomise

read = frameworks.get("keras").read


def small_cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 12, 3), name="image"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv2"),
            layers.LeakyReLU(name="act"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.3, name="drop"),
            layers.Dense(5, activation="softmax", name="head"),
        ],
        name="small",
    )


def test_a_cnn_is_read_and_written_to_every_framework():
    model = randomise(small_cnn())
    for name, error in errors(model, ("onnx", "pytorch", "keras")).items():
        assert error <= 1e-5, name


def test_names_kinds_and_traits():
    found = read(small_cnn())
    assert found.name == "small"
    assert [v.name for v in found.inputs] == ["image"]
    assert [v.name for v in found.outputs] == ["head"]
    named = [n.name for n in found.graph if not traits.is_anonymous(n)]
    assert named == ["conv1", "norm", "pool", "conv2", "act", "flat", "drop", "head"]
    kinds = {v.name: traits.kind(v) for v in found.graph.initializers.values() if traits.kind(v) != "constant"}
    assert kinds["conv1.weight"] == kinds["norm.weight"] == kinds["head.bias"] == "parameter"
    assert kinds["norm.running_mean"] == kinds["norm.running_var"] == "buffer"
    norm = next(n for n in found.graph if n.op_type == "BatchNormalization")
    assert norm.metadata_props[traits.RUNNING_VARIANCE] == "biased"
    assert norm.attributes["momentum"].as_float() == pytest.approx(0.99)
    assert found.weights["conv1.weight"].shape == (8, 3, 3, 3)
    assert found.weights["head.weight"].shape[0] == 5


def test_frozen_layers_stay_frozen():
    model = small_cnn()
    model.get_layer("conv1").trainable = False
    kinds = {v.name: traits.kind(v) for v in read(model).graph.initializers.values()}
    assert kinds["conv1.weight"] == "frozen"
    assert kinds["conv2.weight"] == "parameter"


def test_weights_are_views_of_the_models_own():
    model = small_cnn()
    found = read(model)
    kernel = keras.ops.convert_to_numpy(model.get_layer("conv1").kernel)
    np.testing.assert_array_equal(found.weights["conv1.weight"], kernel.transpose(3, 2, 0, 1))


def test_a_dash_in_a_name_is_a_dot_of_the_path():
    x = inputs = keras.Input((4,), name="my-input")
    for name in ("block-0", "block-1-fc", "head", "head-2"):
        x = layers.Dense(4, name=name)(x)
    model = keras.Model(inputs, x)
    found = read(model)
    assert [v.name for v in found.inputs] == ["my_input"]
    assert {"block.0.weight", "block.1.fc.weight", "head_2.weight"} <= set(found.weights)
    assert "head.weight" in found.weights  # a layer holds no other: behind its name a dash is no dot
    again = found.to_keras()
    assert [layer.name for layer in again.layers][1:-1] == [layer.name for layer in model.layers][1:-1]
    assert errors(model, ("onnx", "pytorch", "keras"))["pytorch"] <= 1e-5


def test_a_printed_class_that_was_edited_is_opened():
    class UnbiasedBatchNormalization(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, UnbiasedBatchNormalization(name="norm")(inputs))
    for name, error in errors(randomise(model), ("onnx", "pytorch", "keras")).items():
        assert error <= 1e-5, name


def test_keras_to_keras_keeps_the_names_of_layers():
    model = randomise(small_cnn())
    written = read(model).to_keras()
    assert {layer.name for layer in model.layers} <= {layer.name for layer in written.layers}


def test_a_shared_layer_has_its_weights_once():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    shared = layers.Dense(3, name="shared")
    model = keras.Model([x, y], layers.Subtract(name="gap")([shared(x), shared(y)]))
    found = read(model)
    assert sorted(v for v in found.graph.initializers) == ["shared.bias", "shared.weight"]
    assert errors(randomise(model))["onnx"] <= 1e-6


def test_a_nested_model_is_a_block():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu", name="fc")], name="encoder")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="head")(inner(x)))
    found = read(model)
    assert "encoder.fc.weight" in found.graph.initializers
    assert "encoder" in traits.blocks(found.graph)
    assert errors(randomise(model))["onnx"] <= 1e-6


def test_outputs_may_be_inputs_and_may_be_doubled():
    x = keras.Input((4,), name="x")
    y = layers.Dense(3, name="fc")(x)
    model = keras.Model(x, [x, y, y])
    assert errors(randomise(model))["onnx"] <= 1e-6


def test_dictionaries_go_by_their_keys():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    model = keras.Model(inputs, {"sum": inputs["a"] + inputs["b"], "fc": layers.Dense(2, name="dense")(inputs["a"])})
    found = read(model)
    assert sorted(v.name for v in found.outputs) == ["fc", "sum"]
    assert errors(randomise(model))["onnx"] <= 1e-6


def test_all_that_is_not_supported_is_told_at_once():
    x = keras.Input((4,), dtype="int32", name="x")
    y = layers.Hashing(3, name="hash")(x)
    z = keras.ops.inv(keras.ops.reshape(layers.Dense(4, name="fc")(keras.ops.cast(y, "float32")), (-1, 2, 2)))
    with pytest.raises(UnsupportedOpError) as raised:
        read(keras.Model(x, z))
    assert "hash: Hashing" in str(raised.value)
    assert "Inv" in str(raised.value)
    assert "@operation('Inv')" in str(raised.value)


def test_training_that_a_functional_model_was_built_with_gives_way_to_inference():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dropout(0.5, name="always")(x, training=True))
    assert errors(model)["onnx"] == 0  # Keras replaces it with the training of the call


@keras.saving.register_keras_serializable("tests")
class AlwaysRandom(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = layers.Dropout(0.5)

    def call(self, x):
        return self.drop(x, training=True)


def test_a_layer_that_calls_another_in_training_mode_is_refused():
    x = keras.Input((4,), name="x")
    with pytest.raises(UnsupportedOpError, match=r"random\.drop: Dropout: it is called with training"):
        read(keras.Model(x, AlwaysRandom(name="random")(x)))


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": "valid"}, {"padding": "same", "kernel": 2}])
def test_a_transposed_convolution_comes_back_to_keras(options):
    x = keras.Input((5, 4, 3), name="x")
    layer = layers.Conv2DTranspose(4, options.pop("kernel", 3), strides=2, name="up", **options)
    assert max(errors(randomise(keras.Model(x, layer(x))), ("pytorch", "keras")).values()) <= 1e-6


def test_main_nodes_say_their_class():
    found = {n.name: n.metadata_props.get(traits.CLASS) for n in read(small_cnn()).graph}
    assert found["conv1"] == "keras.layers.Conv2D"
    assert found["norm"] == "keras.layers.BatchNormalization"


def test_weights_are_not_copied_before_they_are_asked_for():
    model = small_cnn()
    first, second = (read(model).graph.initializers["head.weight"].const_value.numpy() for _ in range(2))
    if keras.backend.backend() == "tensorflow":
        assert np.shares_memory(first, second)


def test_merging_layers_come_back_to_keras_by_name():
    x = keras.Input((6, 6, 4), name="x")
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    gate = layers.Dense(4, activation="sigmoid", name="gate")(
        layers.GlobalAveragePooling2D(keepdims=True, name="gap")(y)
    )
    y = layers.Add(name="plus")([x, layers.Multiply(name="times")([y, gate])])
    y = layers.Concatenate(name="join")([y, layers.Maximum(name="larger")([x, y])])
    model = randomise(keras.Model(x, layers.Subtract(name="minus")([y, layers.Conv2D(8, 1, name="last")(y)])))
    written = read(model).to_keras()
    assert {layer.name for layer in model.layers} <= {layer.name for layer in written.layers}
    assert max(errors(model, ("pytorch", "keras")).values()) <= 1e-6
