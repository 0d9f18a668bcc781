"""Training in Flax NNX: the weights that PyTorch reaches, from the same checkpoint, with every loss and optimizer."""

from __future__ import annotations

import numpy as np
import pytest

import dlbridge
from dlbridge.passes import precision
from dlbridge.training.spec import TrainingSpec
from tests.helpers.paths import EXAMPLES

pytest.importorskip("flax")
pytest.importorskip("torch")
STEPS, BATCH = 10, 8
OPTIMIZERS = [
    {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    {"kind": "adam"},
    {"kind": "adamw", "weight_decay": 0.01},
]


def largest_difference(a, b):
    return max(np.abs(a[k] - w).max() / max(np.abs(w).max(), 1e-12) for k, w in b.items() if w.dtype.kind == "f")


def given(model, rows=STEPS * BATCH):
    rng = np.random.default_rng(0)
    shape = [d if isinstance(d, int) else rows for d in model.inputs[0].shape]
    return {model.inputs[0].name: rng.normal(size=shape), "label": rng.integers(0, 10, rows)}


DROPPED = """
dlbridge: 1
name: dropped
inputs: {x: {dtype: float32, shape: [batch, 6]}}
nodes:
  - {op: Linear, features: 50}
  - {op: Dropout, ratio: 0.5}
outputs: {y: dropout1}
"""


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o["kind"])
def test_nnx_reaches_the_weights_that_pytorch_reaches(optimizer):
    model = precision.convert(dlbridge.load(EXAMPLES / "mlp_784.yaml"), "float64")
    spec = TrainingSpec(loss=model.training.loss, optimizer=optimizer, epochs=1, batch_size=BATCH)
    trained = [dlbridge.train(model, given(model), framework=f, spec=spec).model.weights for f in ("pytorch", "nnx")]
    assert largest_difference(*trained) <= 1e-9
    assert largest_difference(trained[0], model.weights) > 1e-3  # it did train


def test_running_statistics_move_as_in_pytorch():
    model = precision.convert(dlbridge.load(EXAMPLES / "cnn_digits.yaml"), "float64")
    spec = TrainingSpec(loss=model.training.loss, optimizer={"kind": "sgd"}, epochs=1, batch_size=BATCH)
    data = given(model, 3 * BATCH)
    trained = [dlbridge.train(model, data, framework=f, spec=spec).model.weights for f in ("pytorch", "nnx")]
    assert largest_difference(*trained) <= 1e-9


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:2], ids=lambda o: o["kind"])
def test_nnx_goes_on_from_what_pytorch_has_trained(optimizer):
    model = precision.convert(dlbridge.load(EXAMPLES / "mlp_784.yaml"), "float64")
    data = given(model)

    def train(framework, epochs, checkpoint=None):
        spec = TrainingSpec(
            loss=model.training.loss, optimizer=optimizer, epochs=epochs, batch_size=BATCH, shuffle=False
        )
        return dlbridge.train(model, data, framework=framework, spec=spec, checkpoint=checkpoint)

    half = train("pytorch", 1).checkpoint
    whole = train("pytorch", 2)
    assert largest_difference(train("nnx", 2, half).model.weights, whole.model.weights) <= 1e-9
    back = train("pytorch", 2, train("nnx", 1).checkpoint)
    assert largest_difference(back.model.weights, whole.model.weights) <= 1e-9


def test_dropout_draws_other_numbers_in_each_step():
    from dlbridge import frameworks
    from dlbridge.frameworks.nnx.runner import wide

    model = dlbridge.description.load(DROPPED)
    framework = frameworks.get("nnx")
    live = framework.load(framework.write(model))
    x = np.ones((4, 6), np.float32)
    with wide():
        assert np.array_equal(live(x), live(x))
        live.train()
        assert not np.array_equal(live(x), live(x))
