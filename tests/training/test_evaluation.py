"""Evaluation measures what training measures, in every framework; predictions are the outputs, row by row."""

import csv
import json

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest

import dlbridge
from dlbridge import training
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeWarning, TrainingError
from dlbridge.training.doubts import doubts
from dlbridge.training.spec import TrainingSpec
from tests.helpers import parity
from tests.helpers.training import FRAMEWORKS, SPEC, dense

RNG = np.random.default_rng(0)
ROWS = {"x": RNG.normal(size=(50, 5)).astype(np.float32), "label": RNG.integers(0, 3, 50)}


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "onnx"])
def test_the_numbers_are_those_of_validation(framework):
    metrics = ("accuracy", {"kind": "top_k", "k": 2}, "f1")
    spec = SPEC.model_copy(update={"epochs": 2}).model_validate({**SPEC.model_dump(), "epochs": 2, "metrics": metrics})
    result = dlbridge.train(dense(), ROWS, spec=spec)
    held_out = {name: array[40:] for name, array in ROWS.items()}
    found = dlbridge.evaluate(result.model, held_out, framework=framework)
    wanted = {k.removeprefix("val_"): v[-1] for k, v in result.history.items() if k.startswith("val_")}
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("loss", parity.LOSSES)
def test_every_loss_is_measured_as_it_is_trained(loss):
    made, arrays, spec = parity.case("MLP", loss=loss, steps=3)
    spec = spec.model_copy(update={"validation_split": 0.5, "shuffle": False})
    result = dlbridge.train(made, arrays, framework="pytorch", spec=spec)
    rows = {name: array[12:] for name, array in arrays.items()}
    assert dlbridge.evaluate(result.model, rows)["loss"] == pytest.approx(result.history["val_loss"][-1], rel=1e-9)


@pytest.mark.parametrize("metric", ["auc", "iou", "mean_absolute_error", "r2", "root_mean_squared_error"])
def test_every_metric_is_measured_as_in_training(metric):
    loss, ending = "BinaryCrossentropy", "{op: Sigmoid}"
    model = dense(ending, "sigmoid1", 1)
    spec = TrainingSpec(loss={"op": loss}, metrics=(metric,), validation_split=0.4, optimizer={"kind": "sgd"})
    arrays = {"x": ROWS["x"], "label": ROWS["label"] % 2}
    result = dlbridge.train(model, arrays, framework="pytorch", spec=spec)
    found = dlbridge.evaluate(result.model, {name: array[30:] for name, array in arrays.items()})
    assert found[metric] == pytest.approx(result.history[f"val_{metric}"][-1], rel=1e-5)


def test_a_model_without_a_specification_is_measured_by_what_is_said(tmp_path, capsys):
    dense().save(tmp_path / "model")
    np.savez(tmp_path / "rows.npz", **ROWS)
    with pytest.raises(TrainingError, match="nothing says what to measure"):
        dlbridge.evaluate(tmp_path / "model", ROWS)
    arguments = ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "rows.npz")]
    asked = ["--loss", "SoftmaxCrossEntropyLoss", "--metric", "accuracy", "--json"]
    cli.main([*arguments, *asked], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found == pytest.approx(dlbridge.evaluate(dense(), ROWS, spec=SPEC))


def test_a_loss_may_be_said_with_its_settings(tmp_path, capsys):
    dense().save(tmp_path / "model")
    np.savez(tmp_path / "rows.npz", **ROWS)
    asked = ["--loss", "{op: SparseCategoricalCrossentropy, from_logits: true}", "--metric", "{kind: top_k, k: 2}"]
    arguments = ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "rows.npz"), *asked, "--json"]
    cli.main(arguments, standalone_mode=False)
    spec = {"loss": {"op": "SoftmaxCrossEntropyLoss"}, "metrics": [{"kind": "top_k", "k": 2}]}
    assert json.loads(capsys.readouterr().out) == pytest.approx(dlbridge.evaluate(dense(), ROWS, spec=spec))


@pytest.mark.parametrize("loss", ["SparseCategoricalCrossentropy", "CategoricalFocalCrossentropy"])
def test_a_loss_of_probabilities_is_not_measured_of_logits(loss):
    with pytest.raises(TrainingError, match=r"is of probabilities, and the output 'y' has the number -") as found:
        dlbridge.evaluate(dense(), ROWS, spec={"loss": {"op": loss}})
    assert f"{{op: {loss}, from_logits: true}}" in str(found.value)


DOUBTS = [
    ("SparseCategoricalCrossentropy", False, "Identity", "is of probabilities, and the output 'y' is made by a Linear"),
    ("SparseCategoricalCrossentropy", True, "Softmax", "is of logits, and the output 'y' is made by a Softmax"),
    ("SoftmaxCrossEntropyLoss", False, "Softmax", "is of logits, and the output 'y' is made by a Softmax"),
    ("NegativeLogLikelihoodLoss", False, "Softmax", "is of logarithms of probabilities, and .* Softmax: probabilities"),
    ("NegativeLogLikelihoodLoss", False, "Identity", "is of logarithms of probabilities, and .* Linear: any numbers"),
]


@pytest.mark.parametrize(("op", "from_logits", "ending", "text"), DOUBTS)
def test_a_loss_that_does_not_suit_what_makes_the_output_is_doubted(op, from_logits, ending, text):
    """All frameworks train by its definition; Keras by itself would compute it of what the Softmax is given."""
    spec = {"loss": {"op": op, **({"from_logits": True} if from_logits else {})}}
    curves = []
    for framework in FRAMEWORKS:
        with pytest.warns(DlbridgeWarning, match=text):
            model = dense(f"{{op: {ending}}}", f"{ending.lower()}1")
            curves.append(dlbridge.train(model, ROWS, framework=framework, spec=spec).history["loss"])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)


@pytest.mark.parametrize(
    "loss", ["SoftmaxCrossEntropyLoss", "SparseCategoricalCrossentropy", "CategoricalCrossentropy"]
)
def test_a_loss_that_suits_its_output_is_not_doubted(loss):
    ending = "Identity" if loss == "SoftmaxCrossEntropyLoss" else "Softmax"
    spec = TrainingSpec.model_validate({"loss": {"op": loss}})
    assert not list(doubts(dense(f"{{op: {ending}}}", f"{ending.lower()}1"), spec))


def test_what_is_trained_keeps_how_it_was_trained(tmp_path):
    training.train_to_folder(dense(), ROWS, tmp_path / "run", spec=SPEC, plot=False, quiet=True)
    assert dlbridge.load(tmp_path / "run").training == SPEC
    assert dlbridge.evaluate(tmp_path / "run", ROWS).keys() == {"loss", "accuracy"}


@pytest.mark.parametrize("framework", [*FRAMEWORKS, None])
def test_predictions_are_the_outputs_row_by_row(framework):
    model = dense()
    wanted = dlbridge.predict(model, ROWS, batch_size=50)
    found = dlbridge.predict(model, {"x": ROWS["x"]}, framework=framework, batch_size=7)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose(found["y"], wanted["y"], atol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table_that_a_model_was_trained_on_is_predicted_without_its_target(suffix, tmp_path):
    columns = {f"f{i}": ROWS["x"][:, i] for i in range(5)} | {"label": ROWS["label"]}
    path = tmp_path / f"rows{suffix}"
    write = pyarrow.csv.write_csv if suffix == ".csv" else pyarrow.parquet.write_table
    write(pyarrow.table(columns), path)
    trained = dlbridge.train(dense(), path, spec=SPEC).model
    found = dlbridge.predict(trained, path)["y"]
    np.testing.assert_allclose(found, dlbridge.predict(trained, {"x": ROWS["x"]})["y"], rtol=1e-5, atol=1e-6)


def test_predictions_are_written_into_files(tmp_path):
    dense().save(tmp_path / "model")
    np.savez(tmp_path / "rows.npz", x=ROWS["x"])
    wanted = dlbridge.predict(tmp_path / "model", tmp_path / "rows.npz")["y"]
    for kind in ("npz", "csv", "parquet"):
        out = tmp_path / f"out.{kind}"
        cli.main(
            ["predict", str(tmp_path / "model"), str(tmp_path / "rows.npz"), "-o", str(out)], standalone_mode=False
        )
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], wanted)
    with (tmp_path / "out.csv").open() as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["y.0", "y.1", "y.2"]
    np.testing.assert_allclose(np.array(lines[1:], np.float32), wanted, rtol=1e-6)


def test_what_a_framework_cannot_run_is_told_with_one_that_can():
    """onnxruntime has no LSTM of float64, and says so only when it is run."""
    model = parity.model("LSTM", 3, "{op: Identity}", "float64")
    data = {"x": parity.data("LSTM", "classes", 1)["x"]}
    with pytest.raises(TrainingError, match=r"onnx cannot run the model: .*double.*\n.*'pytorch'"):
        dlbridge.predict(model, data)
    assert len(dlbridge.predict(model, data, framework="pytorch"))
    model, data = parity.model("CNN", 3, "{op: Identity}", "float64"), {"x": parity.data("CNN", "classes", 1)["x"]}
    with pytest.raises(TrainingError, match=r"cannot load the model: .*Conv.*\n.*'pytorch'"):
        dlbridge.predict(model, data)
