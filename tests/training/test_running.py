"""How a training is run: callbacks, TensorBoard, the device, compilation, the picture of the history."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

import dlbridge
from dlbridge import training
from dlbridge.errors import TrainingError
from dlbridge.training import Callback, TensorBoard, curves, history
from tests.helpers.training import FRAMEWORKS, SPEC, dense, largest_difference

RNG = np.random.default_rng(0)
ROWS = {"x": RNG.normal(size=(50, 5)).astype(np.float32), "label": RNG.integers(0, 3, 50)}
ALL = (*FRAMEWORKS, "nnx")


class Told(Callback):
    def __init__(self, last=99):
        self.steps, self.epochs, self.last = [], [], last

    def on_step(self, epoch, batch, batches, loss):
        self.steps.append((epoch, batch, batches))
        assert 0 < loss < 10

    def on_epoch(self, checkpoint, metrics):
        self.epochs.append(metrics)
        assert checkpoint.epoch == len(self.epochs)
        return checkpoint.epoch == self.last


@pytest.mark.parametrize("framework", ALL)
def test_callbacks_are_told_and_may_end_the_training(framework):
    told = Told(last=2)
    result = dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC, callbacks=[told])
    assert told.steps == [(epoch, batch, 3) for epoch in (1, 2) for batch in (1, 2, 3)]
    assert [numbers["loss"] for numbers in told.epochs] == result.history["loss"]
    silent = dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC.model_copy(update={"epochs": 2}))
    assert silent.history == result.history


def test_tensorboard_reads_what_is_written(tmp_path):
    from tensorflow.compat.v1.train import summary_iterator

    board = TensorBoard(tmp_path / "board", by_step=True)
    result = dlbridge.train(dense(), ROWS, framework=FRAMEWORKS[0], spec=SPEC, callbacks=[board])
    (path,) = (tmp_path / "board").iterdir()
    found = {}
    for event in summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    for name, numbers in result.history.items():
        assert [step for step, _ in found[name]] == list(range(1, len(numbers) + 1))
        np.testing.assert_allclose([number for _, number in found[name]], numbers, rtol=1e-6)
    assert [step for step, _ in found["loss_of_step"]] == list(range(1, 3 * SPEC.epochs + 1))


@pytest.mark.parametrize("framework", ALL)
def test_a_device_is_chosen_or_refused_by_name(framework):
    wanted = dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC)
    found = dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC, device="cpu")
    assert largest_difference(found.model.weights, wanted.model.weights) == 0
    with pytest.raises(TrainingError, match="no device 'xyz:7' here"):
        dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC, device="xyz:7")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_compiled_model_trains_the_same(framework):
    spec = SPEC.model_copy(update={"epochs": 1})
    wanted = dlbridge.train(dense(), ROWS, framework=framework, spec=spec)
    found = dlbridge.train(dense(), ROWS, framework=framework, spec=spec, compile=True)
    assert largest_difference(found.model.weights, wanted.model.weights) <= 1e-5


def test_the_history_is_drawn_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "has_matplotlib", lambda: False)
    training.train_to_folder(dense(), ROWS, tmp_path / "run", spec=SPEC, quiet=True)
    assert not (tmp_path / "run" / "history.png").exists()
    root = ElementTree.parse(tmp_path / "run" / "history.svg").getroot()
    texts = [element.text for element in root.iter() if element.text]
    assert {"loss", "accuracy"} <= set(texts)
    assert len([e for e in root.iter() if e.tag.endswith("polyline")]) == 4


def test_curves_are_drawn_of_one_epoch_and_of_numbers_that_are_not_finite():
    ElementTree.fromstring(curves.svg({"<a>": {"loss": [1.0]}, "b": {"loss": [float("nan"), 2.0, float("inf")]}}))


@pytest.mark.parametrize("given", [print, [print], [object()]])
def test_what_is_no_callback_is_refused(given):
    with pytest.raises(TrainingError, match="'callbacks' is a list"):
        dlbridge.train(dense(), ROWS, spec=SPEC, callbacks=given)


def test_a_narrow_terminal_shows_all_numbers_of_an_epoch_and_its_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    metrics = ("accuracy", "precision", "recall", "f1")
    spec = SPEC.model_validate({**SPEC.model_dump(), "epochs": 2, "metrics": metrics})
    training.train_to_folder(dense(), ROWS, tmp_path / "run", framework="pytorch", spec=spec, plot=False)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"epoch 2/2: loss [\d.]+, accuracy .*, val_loss .*, val_f1 [\d.]+\n", shown)
    assert re.search(r"training in pytorch ━+ 2/2", shown)
