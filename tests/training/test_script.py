"""A training as a script needs the framework alone, and gives the numbers of ``dlbridge train``."""

import re
import runpy
import sys

import numpy as np
import pytest

import dlbridge
from dlbridge import description, training
from dlbridge.errors import TrainingError
from dlbridge.training.spec import TrainingSpec

MODEL = """
dlbridge: 1
name: small_net
inputs: {image: {dtype: float32, shape: [batch, 1, 6, 6]}}
nodes:
  - {name: conv, op: Conv, channels: 4, kernel_shape: 3}
  - {op: BatchNormalization}
  - {op: Relu}
  - {op: Flatten}
  - {name: fc, op: Linear, features: 3}
  - {name: share, op: Softmax}
outputs: {share: share}
"""
ROWS = 60
CLASSES = {
    "loss": {"op": "SparseCategoricalCrossentropy"},
    # the bias before the normalization has no gradient but rounding, of which a smaller epsilon makes whole steps
    "optimizer": {"kind": "adam", "learning_rate": 0.01, "epsilon": 1e-5},
    "metrics": ["accuracy"],
}
CASES = {
    "classes": {**CLASSES, "validation_split": 0.2},
    "adamw, amsgrad": {
        **CLASSES,
        "optimizer": {"kind": "adamw", "learning_rate": 0.01, "amsgrad": True, "epsilon": 1e-3, "weight_decay": 0.1},
    },
    "sgd, clipped": {
        **CLASSES,
        "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
        "clip": {"norm": 0.5},
    },
    "classes by name": {**CLASSES, "optimizer": {"kind": "sgd", "learning_rate": 0.05}, "validation_split": 0.2}
    | {"stratify": True, "prepare": {"image": {"kind": "standardize"}}},
    "numbers": {"loss": {"op": "Huber", "delta": 0.2}, "metrics": ["mean_absolute_error"], "shuffle": False},
}


def written(what, framework, tmp_path):
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(ROWS, 36)), rng.integers(0, 3, ROWS)
    image[:, 0] += 2 * label
    target = np.eye(3)[label] if what == "numbers" else label
    if what == "classes by name":
        target = np.array(["red", "green", "blue"])[label]
    np.savez(tmp_path / "data.npz", image=image.astype(np.float32), label=target)
    spec = TrainingSpec.model_validate({**CASES[what], "epochs": 3, "batch_size": 8, "seed": 5})
    model = description.load(MODEL)
    path = training.emit(model, tmp_path / "data.npz", tmp_path / "out", framework=framework, spec=spec)
    result = dlbridge.train(model, tmp_path / "data.npz", framework=framework, spec=spec)
    return path, result.history


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("what", CASES)
def test_the_script_gives_the_numbers_of_a_training_here(what, framework, tmp_path, capsys, monkeypatch):
    path, history = written(what, framework, tmp_path)
    assert "dlbridge" not in path.read_text()
    monkeypatch.setitem(sys.modules, "dlbridge", None)
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    for name, numbers in history.items():
        found = [float(n) for n in re.findall(rf"\b(?<!val_){name}:? ([0-9.e+-]+)", printed)][: len(numbers)]
        np.testing.assert_allclose(found, numbers, rtol=2e-4, atol=2e-4, err_msg=printed)
    assert (path.parent / ("trained.pt" if framework == "pytorch" else "trained.keras")).exists()


def test_what_a_script_has_no_words_for_is_named(tmp_path):
    model = description.load(MODEL)
    np.savez(tmp_path / "data.npz", image=np.ones((8, 36), np.float32), label=np.zeros(8, np.int64))
    wrong = {
        "ema, top_2": {"ema": 0.9, "metrics": [{"kind": "top_k", "k": 2}]},
        "the image 'image'": {"prepare": {"image": {"kind": "image"}}},
        "augment": {"augment": {"image": [{"kind": "flip"}]}},
        "label_smoothing": {"loss": {"op": "SparseCategoricalCrossentropy", "label_smoothing": 0.1}},
        "optimizer lion": {"optimizer": {"kind": "lion"}},
    }
    for words, settings in wrong.items():
        spec = TrainingSpec.model_validate({**CLASSES, **settings})
        with pytest.raises(TrainingError, match=words):
            training.emit(model, tmp_path / "data.npz", tmp_path / "out", framework="pytorch", spec=spec)
    assert not (tmp_path / "out").exists()
