"""Data that cannot be right for the output and the loss is one clear error, before anything is trained."""

import numpy as np
import pytest

import dlbridge
from dlbridge import description
from dlbridge.errors import SignatureError, TrainingError
from dlbridge.passes import precision
from dlbridge.training.datasets.binding import bind
from dlbridge.training.datasets.opening import open_data
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import FRAMEWORKS, dense, largest_difference

ROWS = 12
IMAGE = """
dlbridge: 1
name: image
inputs: {x: {dtype: float32, shape: [batch, 5]}}
nodes:
  - {op: Linear, features: 12}
  - {name: out, op: Reshape, shape: SHAPE}
outputs: {y: out}
"""
#: By name: the shape that a model gives for a row.
SHAPES = {(1,): "[0, 1]", (3,): None, (3, 4): "[0, 3, 4]", (4, 3): "[0, 4, 3]", (1, 3, 4): "[0, 1, 3, 4]"}
BINARY = {"op": "BinaryCrossentropy", "from_logits": True}
SPARSE = {"op": "SparseCategoricalCrossentropy", "from_logits": True}
ROWWISE = {"op": "CategoricalCrossentropy", "from_logits": True}
STANDARD = {"op": "SoftmaxCrossEntropyLoss"}
CTC = {"op": "CTC"}
ERRORS = [{"op": "MeanSquaredError"}, {"op": "MeanAbsoluteError"}, {"op": "Huber"}]
classes = np.arange(ROWS) % 3
grid = np.arange(ROWS * 4).reshape(ROWS, 4) % 3


def model(*shape):
    if len(shape) == 1:
        return dense(features=shape[0])
    return description.load(IMAGE.replace("SHAPE", SHAPES[shape]))


def bound(shape, loss, target, x=None):
    """The target as the loss gets it."""
    x = np.zeros((ROWS, 5)) if x is None else x
    return bind(model(*shape), TrainingSpec(loss=loss), {"x": x, "label": np.asarray(target)}).targets[0]


def one_hot(numbers, axis=-1):
    return np.moveaxis(np.eye(3)[numbers], -1, axis)


WRONG = [
    # binary labels
    ((1,), BINARY, classes % 2 + 1, r"is 2 in row 1, and goes from 0 to 1"),
    ((1,), BINARY, classes % 2 * 2 - 1, r"is -1 in row 0"),
    ((1,), BINARY, np.where(np.arange(ROWS) == 5, 1.5, 0), r"is 1\.5 in row 5"),
    ((1,), BINARY, np.zeros((ROWS, 3)), r"shape \(12, 3\), the output 'y'"),
    ((3,), BINARY, classes, r"shape \(12,\)"),
    # class numbers
    ((3,), SPARSE, classes + 1, r"label 3 in row 2 is none of the 3 classes.*\n.*from 0 to 2"),
    ((3,), STANDARD, classes - 1, r"label -1 in row 0"),
    ((3,), SPARSE, classes + 0.5, r"label 0\.5 in row 0"),
    ((3,), SPARSE, one_hot(classes), r"labels have shape \(12, 3\).*\n.*CategoricalCrossentropy takes"),
    ((4, 3), SPARSE, grid.T.reshape(ROWS, 4)[:, :3], r"labels have shape \(12, 3\)"),
    ((3, 4), STANDARD, grid[:, :3], r"labels have shape \(12, 3\)"),
    # probabilities
    ((3,), ROWWISE, classes, r"shape \(12,\), class numbers it seems.*\n.*SparseCategoricalCrossentropy takes"),
    ((3,), ROWWISE, classes[:, None], r"class numbers it seems"),
    ((3,), ROWWISE, one_hot(classes) * 2, r"is 2\.0 in row 0, and goes from 0 to 1"),
    ((3,), ROWWISE, np.ones((ROWS, 3)), r"add up to 3\.0 in row 0.*\n.*BinaryCrossentropy"),
    ((3, 4), STANDARD, one_hot(grid), r"shape \(12, 4, 3\)"),
    ((3, 4), STANDARD, np.zeros((ROWS, 3, 4)), r"add up to 0\.0"),
    # labels of sequences
    ((4, 3), CTC, np.array([[1, 0]] * ROWS), r"label 0 in row 0 is the class that stands for no label"),
    ((4, 3), CTC | {"blank": 2}, np.array([[0, 2]] * ROWS), r"label 2 in row 0 is the class"),
    ((4, 3), CTC, np.array([[1, 2, 1, 2]] * 11 + [[1, 1, 2, 2]]), r"labels of row 11 need 6 steps, the output has 4"),
    # numbers
    *[((4, 3), loss, np.zeros((ROWS, 3, 4)), r"shape \(12, 3, 4\)") for loss in ERRORS],
    *[((1,), loss, np.zeros((ROWS, 3)), r"shape \(12, 3\)") for loss in ERRORS],
    *[((3,), loss, np.zeros(ROWS), r"shape \(12,\)") for loss in ERRORS],
    *[((1,), loss, np.where(np.arange(ROWS) == 7, np.nan, 0), r"nan in row 7") for loss in (*ERRORS, BINARY, SPARSE)],
    ((1,), ERRORS[0], np.full(ROWS, np.inf), r"inf in row 0"),
    ((1,), ERRORS[0], np.full(ROWS, 1e300), r"1e\+300 in row 0, too large for float32"),
    ((1,), ERRORS[0], np.array(["a"] * ROWS), r"holds no numbers"),
    ((1,), ERRORS[0], np.zeros(ROWS, complex), r"holds no numbers"),
]


@pytest.mark.parametrize(
    ("shape", "loss", "target", "words"), WRONG, ids=lambda v: v["op"] if isinstance(v, dict) else ""
)
def test_a_target_that_cannot_be_right_is_refused(shape, loss, target, words):
    with pytest.raises(TrainingError, match=words):
        bound(shape, loss, target)


RIGHT = [
    ((1,), BINARY, classes % 2, (ROWS, 1), "float32"),
    ((1,), BINARY, classes % 2 == 0, (ROWS, 1), "float32"),
    ((1,), BINARY, (classes % 2).astype(np.uint8)[:, None], (ROWS, 1), "float32"),
    ((1,), BINARY, np.full(ROWS, 0.3), (ROWS, 1), "float32"),
    ((3,), SPARSE, classes.astype(np.float32), (ROWS,), "int64"),
    ((3,), SPARSE, classes[:, None].astype(np.int8), (ROWS,), "int64"),
    ((3,), STANDARD, classes.astype(np.uint8), (ROWS,), "int64"),
    ((3,), STANDARD, one_hot(classes) * 0.7 + 0.1, (ROWS, 3), "float32"),
    ((3, 4), STANDARD, grid, (ROWS, 4), "int64"),
    ((3, 4), STANDARD, one_hot(grid, 1).astype(np.float16), (ROWS, 3, 4), "float32"),
    ((4, 3), SPARSE, grid, (ROWS, 4), "int64"),
    ((4, 3), ROWWISE, one_hot(grid).astype(int), (ROWS, 4, 3), "float32"),
    ((4, 3), CTC, np.array([[1, 2, 1, 2]] * 11 + [[1, 1, 2, -1]]), (ROWS, 4), "int64"),
    ((1, 3, 4), ERRORS[0], np.ones((ROWS, 3, 4), int), (ROWS, 1, 3, 4), "float32"),
    ((3, 4), ERRORS[0], np.ones((ROWS, 1, 3, 4)), (ROWS, 3, 4), "float32"),
]


@pytest.mark.parametrize(
    ("shape", "loss", "target", "wanted", "dtype"), RIGHT, ids=lambda v: v["op"] if isinstance(v, dict) else ""
)
def test_a_target_comes_in_the_shape_and_dtype_that_the_loss_compares(shape, loss, target, wanted, dtype):
    found = bound(shape, loss, target)
    assert (found.shape, found.dtype) == (wanted, dtype)
    np.testing.assert_allclose(found.reshape(target.shape), target, rtol=1e-3)


TOKENS = """
dlbridge: 1
name: tokens
inputs: {ids: {dtype: INTS, shape: [batch, time]}, mask: {dtype: float32, shape: [batch, time]}}
nodes:
  - {name: words, op: Embedding, count: 9, size: 3, from: ids}
  - {name: at, op: Unsqueeze, axes: 2, from: mask}
  - {name: y, op: Mul, from: [words, at]}
outputs: [y]
"""


def test_inputs_that_cannot_be_right_are_refused():
    def read(ids, mask=None, label=None, ints="int64"):
        text = description.load(TOKENS.replace("INTS", ints))
        mask = np.ones((4, 6)) if mask is None else mask
        label = np.ones((4, 6, 3)) if label is None else label
        return bind(text, TrainingSpec(loss=ERRORS[0]), {"ids": ids, "mask": mask, "label": label})

    ids = np.arange(24).reshape(4, 6) % 9
    assert read(ids.astype(float)).inputs["ids"].dtype == np.int64
    with pytest.raises(SignatureError, match=r"ids: the input is int64, which cannot hold the 1\.5 in row 0"):
        read(ids + 0.5 * (np.arange(6) == 1))
    with pytest.raises(SignatureError, match=r"ids: the input is int32, which cannot hold the 4294967296"):
        read(ids + (1 << 32), ints="int32")
    with pytest.raises(SignatureError, match=r"mask: .*\(4, 5\)"):  # one name is one size
        read(ids, np.ones((4, 5)))
    with pytest.raises(TrainingError, match=r"shape \(4, 5, 3\)"):
        read(ids, label=np.ones((4, 5, 3)))
    with pytest.raises(TrainingError, match="mask: the data is NaN in row 2"):
        read(ids, np.where(np.arange(4) == 2, np.nan, 1)[:, None] * np.ones((4, 6)))
    with pytest.raises(SignatureError, match=r"mask: the input is float32, which cannot hold the 1e\+300"):
        read(ids, np.full((4, 6), 1e300))


def test_a_validation_split_leaves_rows_on_both_sides():
    for rows, split, words in ((3, 1e-17, "holds back none of 3 rows"), (3, 0.9, "leaves no rows to train on")):
        data = {"x": np.zeros((rows, 5)), "label": np.zeros(rows, int)}
        with pytest.raises(TrainingError, match=words):
            dlbridge.train(dense(), data, spec=TrainingSpec(loss=STANDARD, validation_split=split))


@pytest.mark.parametrize("rows", [10, 64, 99])
@pytest.mark.parametrize("split", [0.1, 0.2, 0.35])
def test_the_rows_that_validate_are_those_of_keras(rows, split):
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    data = {"x": np.arange(rows * 5.0).reshape(rows, 5), "label": np.zeros(rows, int)}
    opened = open_data(dense(), TrainingSpec(loss=STANDARD, validation_split=split), data)
    seen, held_out = opened.seen, opened.held_out
    (ours, theirs), _ = train_validation_split((data["x"], data["label"]), validation_split=split), None
    assert (seen.rows, held_out.rows) == (len(ours[0]), len(theirs[0]))


LABELS = [
    ((1,), BINARY, classes % 2),
    ((3,), BINARY, one_hot(classes).astype(np.uint8)),
    ((3,), SPARSE, classes.astype(np.int8)),
    ((3,), STANDARD, classes.astype(np.int32)),
    ((3,), ROWWISE, one_hot(classes).astype(np.int64)),
    ((1,), ERRORS[0], classes),
    ((1,), ERRORS[1], classes == 1),
]


@pytest.mark.parametrize(("shape", "loss", "target"), LABELS, ids=lambda v: v["op"] if isinstance(v, dict) else "")
def test_labels_of_an_integer_dtype_are_numbers_like_others(shape, loss, target):
    metrics = ("mean_absolute_error", "mean_squared_error") if loss in ERRORS else ("accuracy",)
    spec = TrainingSpec(loss=loss, metrics=metrics, epochs=2, validation_split=0.25, batch_size=4)
    x = np.random.default_rng(0).normal(size=(ROWS, 5))
    results = [
        dlbridge.train(model(*shape), {"x": x, "label": label}, spec=spec, framework=framework)
        for framework, label in (("pytorch", target.astype(np.float64)), *((f, target) for f in FRAMEWORKS))
    ]
    for result in results[1:]:
        assert largest_difference(result.model.weights, results[0].model.weights) <= 1e-5
        for name, values in result.history.items():
            np.testing.assert_allclose(values, results[0].history[name], rtol=1e-4, err_msg=name)


def test_class_numbers_are_not_rounded_to_the_dtype_of_the_model():
    """bfloat16 has whole numbers to 256 alone."""
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(600, 5)), "label": rng.integers(590, 600, 600)}
    spec = TrainingSpec(loss=STANDARD, metrics=("accuracy",), optimizer={"kind": "sgd", "learning_rate": 1}, epochs=4)
    half = precision.convert(dense(features=600), "bfloat16")
    histories = [dlbridge.train(half, data, spec=spec, framework=f).history for f in FRAMEWORKS]
    assert histories[0]["loss"][-1] < 4
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=0.02)
    np.testing.assert_allclose(histories[0]["accuracy"], histories[1]["accuracy"], atol=0.03)
