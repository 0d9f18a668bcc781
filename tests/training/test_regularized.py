"""What is regularized stays regularized: Keras' own ``fit``, and training here in either framework, give one result."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import constraints as C
from keras import layers as L
from keras import regularizers as R

import dlbridge
from dlbridge.errors import DlbridgeWarning, TrainingError
from dlbridge.training.spec import TrainingSpec

SPEC = TrainingSpec(
    loss={"op": "MeanSquaredError"},
    optimizer={"kind": "sgd", "learning_rate": 0.05},
    epochs=2,
    batch_size=4,
    shuffle=False,
)


def _model(shape, *layers, dtype="float32"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


IMAGE, STEPS = (5, 5, 3), (4, 3)
MODELS = {
    "kernel, bias": lambda: _model(
        (4,), L.Dense(3, kernel_regularizer=R.L2(0.3), bias_regularizer=R.L1(0.1), bias_initializer="ones")
    ),
    "both": lambda: _model((4,), L.Dense(3, kernel_regularizer=R.L1L2(0.1, 0.2))),
    "convolution": lambda: _model(IMAGE, L.Conv2D(2, 3, kernel_regularizer="l2"), L.Flatten(), L.Dense(2)),
    "depthwise": lambda: _model(IMAGE, L.DepthwiseConv2D(3, depthwise_regularizer=R.L2(0.2)), L.Flatten(), L.Dense(2)),
    "separable": lambda: _model(
        IMAGE,
        L.SeparableConv2D(2, 3, depthwise_regularizer=R.L2(0.2), pointwise_regularizer=R.L1(0.1)),
        L.GlobalAveragePooling2D(),
    ),
    "embedding": lambda: _model(
        (3,), L.Embedding(6, 4, embeddings_regularizer=R.L2(0.2)), L.Flatten(), L.Dense(2), dtype="int32"
    ),
    "norm": lambda: _model((4,), L.LayerNormalization(gamma_regularizer=R.L2(0.5), beta_regularizer=R.L2(0.5))),
    "recurrent": lambda: _model(
        STEPS, L.LSTM(3, kernel_regularizer=R.L2(0.2), recurrent_regularizer=R.L1(0.1), bias_regularizer=R.L2(0.1))
    ),
    "gru": lambda: _model(STEPS, L.GRU(3, kernel_regularizer=R.L2(0.2), recurrent_regularizer=R.L2(0.1))),
    "both ways": lambda: _model(STEPS, L.Bidirectional(L.LSTM(3, kernel_regularizer=R.L2(0.2)))),
    "non negative": lambda: _model((4,), L.Dense(3, kernel_constraint="non_neg", bias_constraint="non_neg")),
    "max norm": lambda: _model((4,), L.Dense(3, kernel_constraint=C.MaxNorm(0.5))),
    "max norm, other axis": lambda: _model((4,), L.Dense(4, kernel_constraint=C.MaxNorm(0.5, axis=1))),
    "unit norm": lambda: _model((4,), L.Dense(4, kernel_constraint="unit_norm")),
    "unit norm of filters": lambda: _model(
        IMAGE, L.Conv2D(3, 3, kernel_constraint=C.UnitNorm(axis=[0, 1, 2])), L.GlobalAveragePooling2D()
    ),
    "min max norm": lambda: _model((4,), L.Dense(3, kernel_constraint=C.MinMaxNorm(0.5, 0.8, rate=0.7))),
    "recurrent, constrained": lambda: _model(STEPS, L.LSTM(3, kernel_constraint="non_neg")),
    "not trained": lambda: _model((4,), L.Dense(3, kernel_regularizer=R.L2(0.3), trainable=False), L.Dense(2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_is_that_of_keras(name):
    original = MODELS[name]()
    model = dlbridge.load(original)
    random = np.random.default_rng(1)
    shape = (8, *original.input_shape[1:])
    x = random.integers(0, 6, shape).astype("int32") if "embedding" in name else random.normal(size=shape)
    x = x.astype(original.inputs[0].dtype)
    y = random.normal(size=(8, original.output_shape[-1])).astype("float32")
    data = {model.inputs[0].name: x, "label": y}
    trained = {f: dlbridge.train(model, data, framework=f, spec=SPEC) for f in ("keras", "pytorch")}
    original.compile(keras.optimizers.SGD(0.05), "mse")
    history = original.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    wanted = dlbridge.load(original).weights
    for framework, result in trained.items():
        assert abs(result.history["loss"][-1] - history[-1]) < 1e-4 * max(1, abs(history[-1])), framework
        for key, array in result.model.weights.items():
            np.testing.assert_allclose(array, wanted[key], atol=2e-5, err_msg=f"{framework} {key}")


def test_a_written_keras_model_is_regularized_in_its_own_fit():
    original = MODELS["kernel, bias"]()
    live = dlbridge.load(original).to_keras()
    assert float(sum(live.losses)) == pytest.approx(float(sum(original.losses)), rel=1e-6)


class Adds(L.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


class Other(R.Regularizer):
    def __call__(self, x):
        return keras.ops.sum(x)


UNKNOWN = {
    "add_loss": lambda: _model((4,), Adds(name="adds"), L.Dense(2)),
    "activity regularizer": lambda: _model((4,), L.Dense(2, activity_regularizer="l2", name="adds")),
    "activity regularizer ": lambda: _model((4,), L.ActivityRegularization(0.1, name="adds"), L.Dense(2)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_loss_that_is_not_kept_is_told_and_not_trained_without(name):
    with pytest.warns(DlbridgeWarning, match="adds"):
        model = dlbridge.load(UNKNOWN[name]())
    data = {model.inputs[0].name: np.ones((4, 4), "float32"), "label": np.ones((4, 2), "float32")}
    with pytest.raises(TrainingError, match=f"adds: .*{name.split()[0]}"):
        dlbridge.train(model, data, framework="pytorch", spec=SPEC)


@pytest.mark.parametrize(
    "layer, word",
    [
        (lambda: L.Dense(2, kernel_regularizer=R.OrthogonalRegularizer(), name="dense"), "OrthogonalRegularizer"),
        (lambda: L.Dense(2, kernel_regularizer=Other(), name="dense"), "Other"),
        (lambda: L.Dense(2, kernel_constraint=lambda w: w, name="dense"), "constraint"),
    ],
)
def test_what_is_not_known_is_refused(layer, word):
    model = dlbridge.load(_model((4,), layer()))
    data = {model.inputs[0].name: np.ones((4, 4), "float32"), "label": np.ones((4, 2), "float32")}
    with pytest.raises(TrainingError, match=word):
        dlbridge.train(model, data, framework="keras", spec=SPEC)


def test_an_output_whose_mask_weighs_the_loss_is_refused():
    model = dlbridge.load(_model((3,), L.Embedding(6, 4, mask_zero=True), L.Dense(2), dtype="int32"))
    data = {model.inputs[0].name: np.ones((4, 3), "int32"), "label": np.ones((4, 3, 2), "float32")}
    with pytest.raises(TrainingError, match="mask"):
        dlbridge.train(model, data, framework="keras", spec=SPEC)


@pytest.mark.parametrize("framework", ["keras", "pytorch"])
def test_a_printed_loop_says_what_it_lacks(framework):
    model = dlbridge.load(MODELS["both"]())
    model.training = SPEC
    assert "# Not here: the regularizers" in model.write(framework).text
    plain = dlbridge.load(_model((4,), L.Dense(3)))
    plain.training = SPEC
    assert "# Not here" not in plain.write(framework).text
