"""A training as a script needs the framework alone, and gives the numbers of ``dlbridge train``."""

import json
import re
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

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
LOGITS = MODEL.replace("  - {name: share, op: Softmax}\n", "").replace("share: share", "logits: fc")
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
    "classes in float16": {**CLASSES, "precision": {"kind": "float16", "interval": 7}},
    "classes in bfloat16, clipped": {**CLASSES, "precision": "bfloat16", "clip": {"norm": 0.5}},
    "rows": {**CLASSES, "loss": {"op": "SoftmaxCrossEntropyLoss"}},
    "numbers": {"loss": {"op": "Huber", "delta": 0.2}, "metrics": ["mean_absolute_error"], "shuffle": False},
}


def written(what, framework, tmp_path):
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(ROWS, 36)), rng.integers(0, 3, ROWS)
    image[:, 0] += 2 * label
    target = np.eye(3)[label] if what in ("numbers", "rows") else label
    if what == "classes by name":
        target = np.array(["red", "green", "blue"])[label]
    np.savez(tmp_path / "data.npz", image=image.astype(np.float32), label=target)
    spec = TrainingSpec.model_validate({**CASES[what], "epochs": 3, "batch_size": 8, "seed": 5})
    model = description.load(LOGITS if what == "rows" else MODEL)
    path = training.emit(model, tmp_path / "data.npz", tmp_path / "out", framework=framework, spec=spec)
    result = dlbridge.train(model, tmp_path / "data.npz", framework=framework, spec=spec)
    return path, result.history


def check_numbers(history, printed, rtol=2e-4):
    for name, numbers in history.items():
        found = [float(n) for n in re.findall(rf"\b(?<!val_){name}:? ([0-9.e+-]+)", printed)][: len(numbers)]
        np.testing.assert_allclose(found, numbers, rtol=rtol, atol=2e-4, err_msg=printed)


@pytest.fixture(autouse=True)
def usual_policy():
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("what", CASES)
def test_the_script_gives_the_numbers_of_a_training_here(what, framework, tmp_path, capsys, monkeypatch):
    path, history = written(what, framework, tmp_path)
    assert "dlbridge" not in path.read_text()
    monkeypatch.setitem(sys.modules, "dlbridge", None)
    runpy.run_path(str(path), run_name="__main__")
    check_numbers(history, capsys.readouterr().out, rtol=2e-3 if "bfloat16" in what else 2e-4)
    assert (path.parent / ("trained.pt" if framework == "pytorch" else "trained.keras")).exists()


def test_keras_takes_every_optimizer_that_is_printed_for_it():
    keras = pytest.importorskip("keras")
    from dlbridge.frameworks.keras.training import code

    for kind in code.OWN:
        spec = TrainingSpec(loss={"op": "MeanSquaredError"}, optimizer={"kind": kind})
        printed = code.optimizer_call(spec.optimizer)
        keras.optimizers.get(eval(printed, {"keras": keras}))
    assert "lamb" not in code.OWN  # Keras scales vectors too


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "sgd", "momentum": 0.9, "dampening": 0.1},
        {"kind": "adagrad", "learning_rate_decay": 0.1},
        {"kind": "nadam", "momentum_decay": 0.01},
        {"kind": "adam", "weight_decay": 0.1},
    ],
    ids=lambda optimizer: optimizer["kind"],
)
def test_a_setting_that_keras_has_not_is_not_left_out(optimizer, tmp_path):
    pytest.importorskip("keras")
    model = description.load(MODEL)
    model.training = TrainingSpec(loss={"op": "SparseCategoricalCrossentropy"}, optimizer=optimizer)
    assert "model.compile(" not in model.write("keras").text
    np.savez(tmp_path / "data.npz", image=np.zeros((8, 36), np.float32), label=np.zeros(8, int))
    with pytest.raises(TrainingError, match=r"no class for the optimizer \w+ as it is set"):
        training.emit(model, tmp_path / "data.npz", tmp_path / "out", framework="keras")


def test_what_a_script_has_no_words_for_is_named(tmp_path):
    model = description.load(MODEL)
    row = np.eye(3)[np.zeros(8, np.int64)]
    np.savez(tmp_path / "data.npz", image=np.ones((8, 36), np.float32), label=np.zeros(8, np.int64), row=row)
    wrong = {
        "ema, top_2": {"ema": 0.9, "metrics": [{"kind": "top_k", "k": 2}]},
        "fit: cover": {"prepare": {"image": {"kind": "image", "fit": "cover"}}},
        "before its columns": {"augment": {"image": [{"kind": "flip"}]}, "prepare": {"image": {"kind": "standardize"}}},
        "weight": {"loss": {"op": "SparseCategoricalCrossentropy", "weight": 0.5}},
        "of what a Softmax returns": {
            "loss": {"op": "CategoricalCrossentropy", "target": "row"},
            "metrics": ["mean_absolute_error"],
        },
        "label_smoothing": {"loss": {"op": "SparseCategoricalCrossentropy", "label_smoothing": 0.1}},
        "grows by 2": {"precision": {"kind": "float16", "growth": 4.0}},
        "optimizer lion": {"optimizer": {"kind": "lion"}},
    }
    for words, settings in wrong.items():
        spec = TrainingSpec.model_validate({**CLASSES, **settings})
        to = "keras" if "grows" in words else "pytorch"
        with pytest.raises(TrainingError, match=words):
            training.emit(model, tmp_path / "data.npz", tmp_path / "out", framework=to, spec=spec)
    assert not (tmp_path / "out").exists()


CHANGES = [{"kind": "flip"}, {"kind": "crop", "padding": 1}]
COLOURS = {"kind": "color", "brightness": 0.3, "contrast": 0.2, "saturation": 0.4}
IMAGES = {
    "a folder, in float16": {"validation_split": 0.25, "precision": {"kind": "float16", "scale": 1024}},
    "a folder, changed": {
        "validation_split": 0.25,
        "prepare": {"image": {"kind": "image", "normalize": True}},
        "augment": {"image": [*CHANGES, COLOURS]},
    },
    "an array, cubic": {
        "epochs": 1,
        "prepare": {"image": {"kind": "image", "mode": "cubic", "scale": 0.5, "normalize": True}},
    },
    "an array, changed in order": {
        "shuffle": False,
        "validation_split": 0.25,
        "prepare": {"image": {"kind": "image"}},
        "augment": {"image": [{"kind": "flip", "axis": "vertical", "probability": 0.3}, COLOURS]},
    },
}


def photographs(what, tmp_path):
    """A folder of images, of which one has another size and one is grey, or an array of some."""
    rng = np.random.default_rng(0)
    bytes_of = rng.integers(0, 256, (24, 9, 7, 3), dtype=np.uint8)
    label = np.arange(24) % 3
    bytes_of[..., 0] //= label[:, None, None].astype(np.uint8) + 1
    if "array" in what:
        np.savez(tmp_path / "data.npz", image=bytes_of, label=label)
        return tmp_path / "data.npz"
    for place, (pixels, kind) in enumerate(zip(bytes_of, label, strict=True)):
        (tmp_path / "data" / "abc"[kind]).mkdir(parents=True, exist_ok=True)
        shown = pixels[:5] if place == 4 else pixels[..., 0] if place == 5 else pixels
        Image.fromarray(shown).save(tmp_path / "data" / "abc"[kind] / f"{place}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("what", IMAGES)
def test_the_script_makes_the_same_images(what, framework, tmp_path, capsys, monkeypatch):
    data = photographs(what, tmp_path)
    plain = {**CLASSES, "optimizer": {"kind": "sgd", "learning_rate": 0.05}}
    spec = TrainingSpec.model_validate({**plain, **IMAGES[what], "epochs": 3, "batch_size": 5, "seed": 5})
    model = description.load(MODEL.replace("1, 6, 6", "3, 6, 6"))
    path = training.emit(model, data, tmp_path / "out", framework=framework, spec=spec)
    wanted = dlbridge.train(model, data, framework=framework, spec=spec).history
    monkeypatch.setitem(sys.modules, "dlbridge", None)
    runpy.run_path(str(path), run_name="__main__")
    check_numbers(wanted, capsys.readouterr().out)


def test_options_of_a_training_are_refused_beside_emit(capsys, monkeypatch):
    from dlbridge import cli

    given = ["train", __file__, "--data", __file__, "--emit", "out", "--validation", __file__]
    monkeypatch.setattr(sys, "argv", ["dlbridge", *given])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "--validation is of a training" in capsys.readouterr().err


def test_where_a_script_is_can_be_said_as_json(tmp_path, capsys, monkeypatch):
    from dlbridge import cli

    (tmp_path / "net.yaml").write_text(MODEL + "training:\n  loss: {op: SparseCategoricalCrossentropy}\n")
    np.savez(tmp_path / "data.npz", image=np.zeros((4, 1, 6, 6)), label=np.zeros(4, int))
    monkeypatch.chdir(tmp_path)
    given = ["train", "net.yaml", "--data", "data.npz", "--in", "pytorch", "--emit", "out", "--json"]
    monkeypatch.setattr(sys, "argv", ["dlbridge", *given])
    cli.main()
    assert json.loads(capsys.readouterr().out) == {"script": "out/train.py"}
