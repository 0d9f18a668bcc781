"""Keras layers whose weights are quantised, or adapted by LoRA: read as the layer's own code computes them then."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from dlbridge import frameworks
from dlbridge.ops import traits
from tests.helpers.keras_reading import BATCH, error, outputs_of, randomise

TARGETS = ("pytorch", "onnx", "keras")

LAYERS = {
    "Dense": (lambda: keras.layers.Dense(5, activation="relu"), (6, 4), "float32"),
    "EinsumDense": (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de"), (6, 4), "float32"),
    "EinsumDense with an ellipsis": (lambda: keras.layers.EinsumDense("bc...,cde->bde...", (3, 2)), (4, 6), "float32"),
    "EinsumDense in capitals": (lambda: keras.layers.EinsumDense("BTD,DH->BTH", (None, 7)), (6, 4), "float32"),
    "Embedding": (lambda: keras.layers.Embedding(7, 6), (5,), "int32"),
}
CONVS = {
    "Conv1D": (lambda: keras.layers.Conv1D(4, 3, padding="same"), (8, 2), "float32"),
    "Conv2D in groups": (lambda: keras.layers.Conv2D(4, 3, groups=2, strides=2, padding="same"), (8, 7, 2), "float32"),
    "Conv3D": (lambda: keras.layers.Conv3D(3, 2), (4, 5, 6, 2), "float32"),
}
MODES = ("int8", "int4", "float8")


def adapted(layer: keras.layers.Layer) -> None:
    layer.enable_lora(2, lora_alpha=3.0)
    random = np.random.default_rng(3)
    for variable in layer.variables:
        if "lora" in variable.name:
            variable.assign(random.normal(0, 0.5, variable.shape))


def model_of(case, change) -> keras.Model:
    make, shape, dtype = case
    keras.utils.set_random_seed(0)
    layer = make()
    inputs = keras.Input(shape, dtype=dtype)
    layer(inputs)
    randomise(layer)
    change(layer)
    return keras.Model(inputs, layer(inputs))


def assert_converted(model: keras.Model, targets=TARGETS) -> None:
    """What the targets give is what Keras gives, for a batch that the model was not built with."""
    read = frameworks.get("keras").read(model)
    random = np.random.default_rng(1)
    shape = [d if isinstance(d, int) else BATCH for d in read.inputs[0].shape]
    x = random.normal(size=shape) if read.inputs[0].dtype.is_floating_point() else random.integers(0, 5, shape)
    data = {read.inputs[0].name: x.astype(read.inputs[0].dtype.numpy())}
    (wanted,) = outputs_of(model, list(data.values()), list(data))
    for target in targets:
        framework = frameworks.get(target)
        (found,) = framework.run(framework.load(read.write(target)), data).values()
        assert error(found, wanted) <= 2e-6, target


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_quantised(name, mode):
    if name == ("Embedding" if mode == "float8" else "EinsumDense with an ellipsis"):
        pytest.skip("Keras quantises it not")
    assert_converted(model_of(LAYERS[name], lambda layer: layer.quantize(mode)))


def test_four_bits_in_blocks():
    config = keras.quantizers.Int4QuantizationConfig(block_size=2)
    for name in ("Dense", "Embedding"):
        assert_converted(model_of(LAYERS[name], lambda layer: layer.quantize("int4", config=config)), ("pytorch",))


@pytest.mark.parametrize("name", LAYERS | CONVS)
def test_lora(name):
    assert_converted(model_of((LAYERS | CONVS)[name], adapted))


def test_quantised_with_lora():
    def change(layer):
        layer.quantize("int8")
        adapted(layer)

    assert_converted(model_of(LAYERS["Dense"], change), ("pytorch",))


def test_lora_trains_what_it_trains_in_keras():
    read = frameworks.get("keras").read(model_of(LAYERS["Dense"], adapted))
    kinds = {name.rpartition(".")[2]: traits.kind(v) for name, v in read.graph.initializers.items()}
    assert (kinds["kernel"], kinds["lora_kernel_a"], kinds["lora_kernel_b"]) == ("frozen", "parameter", "parameter")


@pytest.mark.parametrize("mode", ("int8", "int4"))
def test_a_whole_model_is_quantised(mode):
    """With attention, whose projections are layers within a layer, and a layer in a wrapper."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(7))(x)
    model = randomise(keras.Model(inputs, x))
    model.quantize(mode)
    assert_converted(model, ("pytorch", "onnx"))


@pytest.mark.parametrize("dtype", ("int8", "int16", "int32", "int64"))
def test_shifts_of_signed_numbers(dtype):
    bits = np.iinfo(dtype).bits
    edge = np.iinfo(dtype)
    numbers = np.array([edge.min, edge.min + 1, -129 % 128 - 128, -5, -1, 0, 1, 6, edge.max], dtype)
    inputs = keras.Input(batch_shape=numbers.shape, dtype=dtype)
    steps = (1, bits // 2, bits - 1)
    results = [f(inputs, n) for f in (keras.ops.right_shift, keras.ops.left_shift) for n in steps]
    model = keras.Model(inputs, results)
    read = frameworks.get("keras").read(model)
    for target in TARGETS:
        framework = frameworks.get(target)
        found = framework.run(framework.load(read.write(target)), {read.inputs[0].name: numbers})
        for value, wanted in zip(found.values(), outputs_of(model, [numbers], []), strict=True):
            np.testing.assert_array_equal(value, wanted)
