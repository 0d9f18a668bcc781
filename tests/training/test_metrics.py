"""Metrics have one definition: the frameworks' number is that of all rows together, as scikit-learn has it."""

import numpy as np
import pytest
from sklearn import metrics as theirs

import dlbridge
from dlbridge.errors import TrainingError
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import dense

ROWS = 90
FRAMEWORKS = ("pytorch", "keras", "nnx")
rng = np.random.default_rng(5)
X = rng.normal(size=(ROWS, 5)).astype(np.float32)
CLASSES = rng.integers(0, 3, ROWS)
NUMBERS = rng.normal(size=(ROWS, 3)).astype(np.float32)
SIGNS = (X[:, :3] + rng.normal(size=(ROWS, 3)) > 0).astype(np.float32)


def of_validation(framework, loss, metrics, target, model=None):
    """The metrics of the untrained model over rows that validate, in batches of other sizes; and its output on them."""
    model = model or dense()
    spec = TrainingSpec(
        loss=loss,
        optimizer={"kind": "sgd", "learning_rate": 1e-30},
        metrics=metrics,
        batch_size=7,
        validation_split=0.5,
    )
    history = dlbridge.train(model, {"x": X, "label": target}, spec=spec, framework=framework).history
    output = model.to_pytorch()(__import__("torch").from_numpy(X[ROWS // 2 :])).detach().numpy()
    return {name: history[f"val_{name}"][0] for name in history if f"val_{name}" in history}, output


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_metrics_of_classes(framework):
    names = ["accuracy", {"kind": "top_k", "k": 2}, "precision", "recall", "f1", "iou"]
    found, output = of_validation(framework, {"op": "SoftmaxCrossEntropyLoss"}, names, CLASSES)
    right, said = CLASSES[ROWS // 2 :], output.argmax(-1)
    more = {"average": "macro", "zero_division": 0}
    np.testing.assert_allclose(found["accuracy"], theirs.accuracy_score(right, said))
    np.testing.assert_allclose(found["top_2"], theirs.top_k_accuracy_score(right, output, k=2))
    np.testing.assert_allclose(found["precision"], theirs.precision_score(right, said, **more))
    np.testing.assert_allclose(found["recall"], theirs.recall_score(right, said, **more))
    np.testing.assert_allclose(found["f1"], theirs.f1_score(right, said, **more))
    np.testing.assert_allclose(found["iou"], theirs.jaccard_score(right, said, **more))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_metrics_of_two_classes(framework):
    loss = {"op": "BinaryCrossentropy", "from_logits": True}
    found, output = of_validation(framework, loss, ["accuracy", "precision", "recall", "f1", "auc"], SIGNS)
    right, said = SIGNS[ROWS // 2 :].reshape(-1), (output > 0).reshape(-1)
    np.testing.assert_allclose(found["accuracy"], theirs.accuracy_score(right, said))
    np.testing.assert_allclose(found["precision"], theirs.precision_score(right, said))
    np.testing.assert_allclose(found["recall"], theirs.recall_score(right, said))
    np.testing.assert_allclose(found["f1"], theirs.f1_score(right, said))
    np.testing.assert_allclose(found["auc"], theirs.roc_auc_score(right, output.reshape(-1)), atol=2e-3)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_metrics_of_numbers(framework):
    names = ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2"]
    found, output = of_validation(framework, {"op": "MeanSquaredError"}, names, NUMBERS)
    right = NUMBERS[ROWS // 2 :]
    np.testing.assert_allclose(found["mean_absolute_error"], theirs.mean_absolute_error(right, output), rtol=1e-6)
    np.testing.assert_allclose(found["mean_squared_error"], theirs.mean_squared_error(right, output), rtol=1e-6)
    rms = np.sqrt(theirs.mean_squared_error(right, output))
    np.testing.assert_allclose(found["root_mean_squared_error"], rms, rtol=1e-6)
    np.testing.assert_allclose(found["r2"], theirs.r2_score(right, output), rtol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("ending", "loss"), [("Sigmoid", "BinaryCrossentropy"), ("Softmax", "KLDivergence")])
def test_numbers_are_those_that_the_model_returns(ending, loss, framework):
    """A model that ends in a Sigmoid or Softmax is trained without it: its errors are not those of its logits."""
    target = SIGNS if ending == "Sigmoid" else np.eye(3, dtype=np.float32)[CLASSES]
    model, names = dense(f"{{op: {ending}}}", f"{ending.lower()}1"), ["mean_absolute_error", "r2"]
    found, output = of_validation(framework, {"op": loss}, names, target, model)
    right = target[ROWS // 2 :]
    np.testing.assert_allclose(found["mean_absolute_error"], theirs.mean_absolute_error(right, output), rtol=1e-6)
    np.testing.assert_allclose(found["r2"], theirs.r2_score(right, output), rtol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("ignored", [-100, 1, 255])
def test_what_is_ignored_counts_in_no_metric(framework, ignored):
    target = np.where(np.arange(ROWS) % 4 == 0, ignored, CLASSES)
    loss, names = {"op": "SoftmaxCrossEntropyLoss", "ignore_index": ignored}, ["accuracy", "f1", "iou"]
    found, output = of_validation(framework, loss, names, target)
    read = target[ROWS // 2 :] != ignored
    right, said = target[ROWS // 2 :][read], output.argmax(-1)[read]
    np.testing.assert_allclose(found["accuracy"], theirs.accuracy_score(right, said))
    np.testing.assert_allclose(found["f1"], theirs.f1_score(right, said, average="macro", zero_division=0))
    np.testing.assert_allclose(found["iou"], theirs.jaccard_score(right, said, average="macro", zero_division=0))


REFUSED = {
    "accuracy is of classes, MeanSquaredError has none": ("MeanSquaredError", ["accuracy"]),
    "auc is of two classes at one output, SoftmaxCrossEntropyLoss has none": ("SoftmaxCrossEntropyLoss", ["auc"]),
    "r2 is of numbers .* SparseCategoricalCrossentropy has none": ("SparseCategoricalCrossentropy", ["r2"]),
    "mean_absolute_error is of numbers": ("SoftmaxCrossEntropyLoss", ["mean_absolute_error"]),
    "f1 is of classes": ("MeanSquaredError", [{"kind": "f1", "of": "y"}]),
    "two metrics have the name 'f1'": ("SoftmaxCrossEntropyLoss", ["f1", {"kind": "f1", "average": "macro"}]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_metric_that_does_not_suit_its_loss_is_refused(why):
    op, metrics = REFUSED[why]
    with pytest.raises(ValueError, match=why):
        TrainingSpec(loss={"op": op}, metrics=metrics)


def test_more_classes_than_there_are_are_refused():
    spec = TrainingSpec(loss={"op": "SoftmaxCrossEntropyLoss"}, metrics=["top_k"])
    with pytest.raises(TrainingError, match="top_5 of 3 classes is always 1"):
        dlbridge.train(dense(), {"x": X, "label": CLASSES}, spec=spec, framework="pytorch")


def test_a_metric_may_name_the_only_output():
    loss = {"op": "SoftmaxCrossEntropyLoss"}
    output = dense().outputs[0].name
    spec = TrainingSpec(loss=loss, metrics=[{"kind": "accuracy", "of": output}])
    history = dlbridge.train(dense(), {"x": X, "label": CLASSES}, spec=spec, framework="pytorch").history
    assert f"{output}_accuracy" in history
    spec = TrainingSpec(loss=loss, metrics=[{"kind": "accuracy", "of": "another"}])
    with pytest.raises(TrainingError, match="of 'another', which no loss reads"):
        dlbridge.train(dense(), {"x": X, "label": CLASSES}, spec=spec, framework="pytorch")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numbers_are_not_compared_with_those_of_other_rows(framework):
    """A loss of one's own may take a target of any shape; (rows, 3) less (rows, 1) would be broadcast."""
    spec = TrainingSpec(loss={"op": "Own"}, metrics=["mean_absolute_error"])
    data = {"x": X, "label": NUMBERS[:, :1]}
    with pytest.raises(TrainingError, match=r"shape \[3\], one of the target \[1\]"):
        dlbridge.train(dense(), data, spec=spec, framework=framework, own_loss=lambda x, t: (x - t) ** 2)
