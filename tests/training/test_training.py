"""Training: the same weights from either framework, checkpoints that either goes on with, data and its mistakes."""

import json

import numpy as np
import pytest

import dlbridge
from dlbridge import description, frameworks
from dlbridge.errors import FileError, SignatureError, TrainingError
from dlbridge.passes import precision
from dlbridge.training.datasets.tables import read_arrays
from dlbridge.training.folder import train_to_folder
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import FRAMEWORKS, SPEC, dense, largest_difference
from tests.helpers.training_places import FIRST, LAST, places

BATCH = 8


def spec_of(optimizer, loss, **more):
    return TrainingSpec(loss=loss, optimizer=optimizer, epochs=1, batch_size=BATCH, **more)


def test_the_classes_are_where_the_loss_has_them():
    """On axis 1 for the standard's loss, on the last one for Keras' own: the same numbers."""
    results = []
    for loss in (FIRST, LAST):
        model, data = places(loss)
        model = precision.convert(model, "float64")
        results += [dlbridge.train(model, data, framework=f) for f in FRAMEWORKS]
    rows = data | {"label": np.eye(4)[data["label"]].transpose(0, 3, 1, 2)}
    results += [dlbridge.train(places(FIRST)[0], rows, framework=f) for f in FRAMEWORKS]
    for result in results:
        close = 1e-9 if result.model.weights["scores.weight"].dtype == np.float64 else 1e-5
        assert largest_difference(result.model.weights, results[0].model.weights) <= close
        np.testing.assert_allclose(result.history["accuracy"], results[0].history["accuracy"], rtol=1e-5)
    assert results[0].history["accuracy"][0] > 0.27


def test_labels_that_have_the_classes_elsewhere_are_refused():
    model, data = places(FIRST)
    with pytest.raises(TrainingError, match=r"\(64, 3, 4\).* are its axis 1"):
        dlbridge.train(model, data | {"label": data["label"][:, :3]})


def test_labels_may_be_a_column_or_probabilities(blobs):
    whole = dlbridge.train(dense(), blobs, spec=SPEC).history
    assert dlbridge.train(dense(), blobs | {"label": blobs["label"][:, None]}, spec=SPEC).history == whole
    smooth = blobs | {"label": np.eye(3, dtype=np.float32)[blobs["label"]] * 0.7 + 0.1}
    histories = [dlbridge.train(dense(), smooth, spec=SPEC, framework=f).history for f in FRAMEWORKS]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)
    assert histories[0]["val_accuracy"][-1] > 0.9


@pytest.fixture
def blobs():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 3, 90)
    return {"x": (np.eye(3, 5)[label] * 2 + rng.normal(size=(90, 5)) / 3).astype(np.float32), "label": label}


def test_what_one_framework_has_begun_the_other_goes_on_with(blobs):
    model = dense()
    whole = dlbridge.train(model, blobs, framework="pytorch", spec=SPEC)
    half = SPEC.model_copy(update={"epochs": 3})
    for first, second in (FRAMEWORKS, FRAMEWORKS[::-1]):
        begun = dlbridge.train(model, blobs, framework=first, spec=half)
        done = dlbridge.train(model, blobs, framework=second, spec=SPEC, checkpoint=begun.checkpoint)
        assert largest_difference(done.model.weights, whole.model.weights) <= 1e-4
        np.testing.assert_allclose(done.history["val_loss"], whole.history["val_loss"], rtol=1e-4)
    assert whole.history["val_accuracy"][-1] > 0.9


def test_ctrl_c_keeps_what_was_reached_and_resumes(blobs, tmp_path):
    model = dense()

    class Stopping:
        def __init__(self, trainer):
            self.trainer, self.epochs = trainer, 0
            self.evaluate, self.state = trainer.evaluate, trainer.state

        def epoch(self, data):
            self.epochs += 1
            if self.epochs == 3:
                raise KeyboardInterrupt
            return self.trainer.epoch(data)

    framework = frameworks.get("pytorch")
    with pytest.MonkeyPatch.context() as patch:
        make = framework.trainer
        patch.setattr(framework, "trainer", lambda *a, **k: Stopping(make(*a, **k)), raising=False)
        stopped = train_to_folder(model, blobs, tmp_path / "run", spec=SPEC, quiet=True)
    assert stopped.interrupted
    assert len(stopped.history["loss"]) == 2
    resumed = train_to_folder(model, blobs, tmp_path / "run", spec=SPEC, resume=True, framework="keras", quiet=True)
    whole = dlbridge.train(model, blobs, spec=SPEC)
    assert largest_difference(resumed.model.weights, whole.model.weights) <= 1e-4
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert files >= {
        "model.yaml",
        "weights.safetensors",
        "best.safetensors",
        "history.json",
        "history.png",
        "checkpoint",
    }
    assert json.loads((tmp_path / "run" / "history.json").read_text()) == resumed.history
    again = dlbridge.load(tmp_path / "run")
    assert largest_difference(again.weights, resumed.model.weights) == 0


def test_files_say_the_same_as_arrays(blobs, tmp_path):
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    columns = {f"x_{i}": blobs["x"][:, i] for i in range(5)} | {"label": blobs["label"]}
    table = pyarrow.table(columns)
    pyarrow.csv.write_csv(table, tmp_path / "d.csv")
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    np.savez(tmp_path / "d.npz", **blobs)
    want = dlbridge.train(dense(), blobs, spec=SPEC).history
    for name in ("d.csv", "d.parquet", "d.npz"):
        assert dlbridge.train(dense(), tmp_path / name, spec=SPEC).history == want


TWINS = """
dlbridge: 1
name: twins
inputs: {left: {dtype: float64, shape: [batch, 5, 4]}, right: {dtype: float64, shape: [batch, 5, 4]}}
blocks:
  encode:
    nodes:
      - {op: Transpose, perm: [1, 0, 2]}
      - {name: gru, op: GRU, hidden_size: 6, linear_before_reset: 1}
      - {op: Squeeze, from: gru.Y_h, axes: 0}
      - {name: fc, op: Linear, features: 3}
nodes:
  - {name: a, block: encode, from: left}
  - {name: b, block: encode, from: right, weights: a}
  - {name: score, op: Sub, from: [a, b]}
outputs: [score]
"""


def test_what_blocks_share_is_trained_as_one():
    model = description.load(TWINS)
    rng = np.random.default_rng(3)
    data = {name: rng.normal(size=(64, 5, 4)) for name in ("left", "right")} | {"label": rng.normal(size=(64, 3))}
    spec = spec_of({"kind": "adam"}, {"op": "MeanSquaredError"})
    trained = [dlbridge.train(model, data, framework=f, spec=spec).model for f in FRAMEWORKS]
    assert largest_difference(trained[0].weights, trained[1].weights) <= 1e-9
    assert largest_difference(trained[0].weights, model.weights) > 1e-3
    assert len(list(trained[0].to_pytorch().parameters())) == 6
    assert len(trained[0].to_keras().trainable_variables) == 5


MISTAKES = {
    "no input": (lambda d: {"label": d["label"]}, TrainingError, "nothing for the input 'x'"),
    "no target": (lambda d: {"x": d["x"]}, TrainingError, "has no target beside x"),
    "lengths": (lambda d: {"x": d["x"], "label": d["label"][:-1]}, TrainingError, "different numbers of rows"),
    "shape": (lambda d: {"x": d["x"][:, :4], "label": d["label"]}, SignatureError, r"\(90, 4\)"),
    "empty": (lambda d: {k: v[:0] for k, v in d.items()}, TrainingError, "no rows"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_data_that_does_not_fit_is_one_clear_error(mistake, blobs):
    change, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=words):
        dlbridge.train(dense(), change(blobs), spec=SPEC)


def test_broken_data_files_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not a zip")
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    (tmp_path / "c.txt").write_text("1,2")
    for name in ("a.npz", "b.npz", "c.txt", "none.npz"):
        with pytest.raises(FileError):
            read_arrays(tmp_path / name)


def test_onnx_does_not_train(blobs):
    with pytest.raises(TrainingError, match="onnx does not train"):
        dlbridge.train(dense(), blobs, framework="onnx", spec=SPEC)


def test_training_in_float64_leaves_keras_as_it_was():
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy().name
    model = precision.convert(dense(), "float64")
    data = {"x": np.ones((8, 5)), "label": np.zeros(8, np.int64)}
    dlbridge.train(model, data, framework="keras", spec=SPEC)
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == before
    assert keras.layers.Dense(1).dtype_policy.name == "float32"
