"""A specification is checked before anything runs, and says the same as JSON and in the schema."""

import json

import numpy as np
import pytest

import dlbridge
from dlbridge import description
from dlbridge.errors import DescriptionError, TrainingError
from dlbridge.training.formulas.schedules import EarlyStopping, OneCycle, Plateau
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.task import Steps
from tests.helpers import training_page
from tests.helpers.paths import ROOT
from tests.helpers.training import dense

LOSS = {"op": "MeanSquaredError"}


def rates(schedule, steps=10, epochs=1, **more):
    spec = TrainingSpec(loss=LOSS, optimizer={"kind": "sgd", "learning_rate": 1.0}, schedule=schedule, epochs=epochs)
    return [n["rate"] for e in range(epochs) for n in Steps(spec, e * steps, e, steps, more.get("history", ()))]


def test_schedules_by_their_formulas():
    np.testing.assert_allclose(rates({"kind": "step", "every": 4, "gamma": 0.5})[::4], [1, 0.5, 0.25])
    np.testing.assert_allclose(rates({"kind": "step", "milestones": [3, 5]}), [1] * 3 + [0.1] * 2 + [0.01] * 5)
    np.testing.assert_allclose(rates({"kind": "exponential", "gamma": 0.9}), 0.9 ** np.arange(10))
    np.testing.assert_allclose(rates({"kind": "cosine"}), (1 + np.cos(np.pi * np.arange(10) / 10)) / 2)
    np.testing.assert_allclose(rates({"kind": "polynomial", "end": 0.1}), 1 - 0.09 * np.arange(10))
    np.testing.assert_allclose(rates({"kind": "constant", "warmup": 4})[:5], [0.25, 0.5, 0.75, 1, 1])
    of_epochs = {"kind": "step", "per": "epoch", "gamma": 0.5}
    np.testing.assert_allclose(rates(of_epochs, steps=2, epochs=3), [1, 1, 0.5, 0.5, 0.25, 0.25])


def test_one_cycle_is_that_of_pytorch():
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, cycle_momentum=False)
    theirs = []
    for _ in range(10):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    one = OneCycle(kind="one_cycle")
    np.testing.assert_allclose([one.factor(i, 10) for i in range(10)], theirs, rtol=1e-12)


def test_a_plateau_and_an_early_end_follow_from_the_history():
    plateau = Plateau(kind="plateau", patience=2, reduce=0.5)
    assert [plateau.after([3, 2, 2, 2, 2, 2][:n]) for n in range(7)] == [1, 1, 1, 1, 0.5, 0.5, 0.25]
    stopping = EarlyStopping(patience=2)
    assert [stopping.is_over([3, 2, 2.5, 2.1][:n]) for n in range(5)] == [False, False, False, False, True]
    spec = TrainingSpec(
        loss=LOSS, optimizer={"kind": "sgd", "learning_rate": 1e-30}, epochs=9, early_stopping={"patience": 3}
    )
    data = {"x": np.ones((8, 5), np.float32), "label": np.ones((8, 3), np.float32)}
    assert len(dlbridge.train(dense(), data, spec=spec).history["loss"]) == 4


WRONG = {
    "clip by both": {"clip": {"norm": 1.0, "value": 1.0}},
    "nesterov alone": {"optimizer": {"kind": "sgd", "nesterov": True}},
    "adamw is decoupled": {"optimizer": {"kind": "adamw", "decay": "coupled"}},
    "no such metric": {"metrics": ["beauty"]},
    "an infinite learning rate": {"optimizer": {"kind": "sgd", "learning_rate": float("inf")}},
    "a step before the first": {"schedule": {"kind": "step", "milestones": [3, -1]}},
    "a plateau that rises": {"schedule": {"kind": "plateau", "smallest": 2}},
    "a class of negative weight": {"loss": {"op": "SoftmaxCrossEntropyLoss", "class_weights": [1, -1]}},
    "no class of any weight": {"loss": {"op": "SoftmaxCrossEntropyLoss", "class_weights": [0, 0]}},
    "classes of numbers": {"metrics": ["f1"]},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused(what):
    with pytest.raises(ValueError, match="validation error"):
        TrainingSpec.model_validate({"loss": LOSS, **WRONG[what]})


SAID = {
    "'optimizer' is the str 'adam': input should be a mapping\n.* optimizer: {kind: adam}": {"optimizer": "adam"},
    "'metrics' is the str 'accuracy': input should be a list\n.* metrics: .accuracy, f1.": {"metrics": "accuracy"},
    "item 0 of 'metrics' is 'acc'\n.*'accuracy'": {"metrics": ["acc"]},
    "item 0 of 'metrics' is 'mae'\n.*'mean_absolute_error'": {"metrics": ["mae"]},
    "unknown loss 'mse'\n.*'MeanSquaredError'": {"loss": {"op": "mse"}},
}


@pytest.mark.parametrize("words", SAID)
def test_a_mistake_is_said_with_what_is_meant(words):
    with pytest.raises(DescriptionError, match=words):
        dlbridge.train(dense(), {}, spec={"loss": LOSS, **SAID[words]})


def test_one_loss_may_be_refused_for_its_weights_of_rows():
    spec = TrainingSpec(loss={**LOSS, "sample_weight": "importance"})
    data = {"x": np.ones((8, 5), np.float32), "label": np.ones((8, 3), np.float32)}
    with pytest.raises(TrainingError, match="no 'importance'"):
        dlbridge.train(dense(), data, spec=spec)
    with pytest.raises(TrainingError, match="not negative"):
        dlbridge.train(dense(), data | {"importance": np.full(8, -1.0)}, spec=spec)


TWO = """
dlbridge: 1
name: two
inputs: {x: {dtype: float64, shape: [batch, 5]}}
nodes:
  - {name: body, op: Linear, features: 8}
  - {op: Tanh}
  - {name: what, op: Linear, features: 3}
  - {name: share, op: Softmax}
  - {name: size, op: Linear, from: body, features: 1}
outputs: {share: share, size: size}
"""


def test_several_losses_are_added_up_with_their_weights():
    model, rng = description.load(TWO), np.random.default_rng(0)
    data = {"x": rng.normal(size=(64, 5)), "kind": rng.integers(0, 3, 64), "height": rng.normal(size=64)}
    losses = [
        {"op": "SparseCategoricalCrossentropy", "of": "share", "target": "kind"},
        {"op": "Huber", "of": "size", "target": "height", "weight": 0.3},
        {"op": "CategoricalFocalCrossentropy", "of": "share", "target": "kind", "weight": 0.1},
    ]
    metrics = ["accuracy", {"kind": "r2", "of": "size"}]
    spec = TrainingSpec(loss=losses, metrics=metrics, batch_size=8, epochs=2)
    found = [dlbridge.train(model, data, spec=spec, framework=f) for f in ("pytorch", "keras", "nnx")]
    for other in found[1:]:
        for name, weight in found[0].model.weights.items():
            np.testing.assert_allclose(other.model.weights[name], weight, rtol=1e-9, atol=1e-12)
        assert other.history.keys() == {"loss", "accuracy", "size_r2"}
        for name, numbers in found[0].history.items():
            np.testing.assert_allclose(other.history[name], numbers, rtol=1e-9)


def test_the_schema_and_the_page_are_not_stale():
    kept = json.loads((ROOT / "schemas" / "training.schema.json").read_text())
    assert kept == json.loads(json.dumps(training_page.schema())), "run: python -m tests.helpers.training_page"
    page = training_page.PAGE.read_text()
    assert training_page.replaced(page, "definitions", training_page.definitions()) == page
