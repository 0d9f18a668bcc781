"""Training data of every kind: the same rows give the same weights, however they are given."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import dlbridge
from dlbridge import training
from dlbridge.errors import DescriptionError, FileError, TrainingError
from dlbridge.training.datasets import opening, tables
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import FRAMEWORKS, dense, largest_difference

RNG = np.random.default_rng(0)
ROWS = {"x": RNG.normal(size=(50, 5)).astype(np.float32), "label": RNG.integers(0, 3, 50)}
LOSS = {"op": "SoftmaxCrossEntropyLoss"}
SPEC = TrainingSpec(loss=LOSS, optimizer={"kind": "sgd", "learning_rate": 0.1}, batch_size=8, epochs=2)
PLAIN = SPEC.model_copy(update={"shuffle": False})
NAMES = np.array(["red", "green", "blue"])


def batches():
    for start in range(0, 50, 8):
        rows = slice(start, start + 8)
        yield {name: array[rows] for name, array in ROWS.items()}


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, row):
        return ROWS["x"][row], ROWS["label"][row]


class Frame:
    """What dlbridge uses of a data frame."""

    def __init__(self, columns):
        self._columns = columns
        self.columns, self.dtypes = list(columns), {}

    def __getitem__(self, name):
        values = self._columns[name]
        return type("Series", (), {"to_numpy": lambda self: values})()


def tf_data():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((ROWS["x"], ROWS["label"])).batch(8)


def columns():
    return {f"x_{i}": ROWS["x"][:, i] for i in range(5)} | {"label": ROWS["label"]}


GIVEN = {
    "a DataLoader": lambda: torch.utils.data.DataLoader(Items(), batch_size=8),
    "a tf.data.Dataset": tf_data,
    "a function of a generator": lambda: batches,
    "a list of batches": lambda: list(batches()),
    "a data frame": lambda: Frame(columns()),
    "an Arrow table": lambda: pyarrow.table(columns()),
    "a Dataset": Items,
}


@pytest.fixture(scope="module")
def wanted():
    return {spec.shuffle: dlbridge.train(dense(), ROWS, framework="pytorch", spec=spec) for spec in (SPEC, PLAIN)}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("given", GIVEN)
def test_data_of_every_kind_trains_the_same(given, framework, wanted):
    result = dlbridge.train(dense(), GIVEN[given](), framework=framework, spec=PLAIN)
    assert largest_difference(result.model.weights, wanted[False].model.weights) <= 1e-5
    np.testing.assert_allclose(result.history["loss"], wanted[False].history["loss"], rtol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rows_that_are_not_in_memory_come_in_the_order_of_those_that_are(framework, wanted, monkeypatch):
    monkeypatch.setattr(opening, "IN_MEMORY", 100)
    result = dlbridge.train(dense(), Items(), framework=framework, spec=SPEC)
    assert largest_difference(result.model.weights, wanted[True].model.weights) <= 1e-5


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "IN_MEMORY", 100)
    monkeypatch.setattr(opening, "IN_MEMORY", 100)
    monkeypatch.setattr(tables, "BLOCK", 400)
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"x": ROWS["x"].tolist(), "label": NAMES[ROWS["label"]]})
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    return path


def test_a_large_parquet_file_is_read_in_blocks_and_every_row_once(parquet):
    spec = SPEC.model_copy(update={"validation_split": 0.2})
    opened = opening.open_data(dense(), spec, parquet)
    assert opened.seen.is_stream and opened.processing.outputs["y"].labels == ("blue", "green", "red")
    orders = []
    for number in (0, 1, 1):
        found = list(opened.seen.epoch(number).batches())
        orders.append(np.concatenate([batch.inputs["x"] for batch in found]))
        labels = np.concatenate([batch.targets[0] for batch in found])
        places = [int(np.flatnonzero((ROWS["x"] == row).all(1))[0]) for row in orders[-1]]
        assert sorted(places) == list(range(40))
        np.testing.assert_array_equal(labels, 2 - ROWS["label"][places])
    np.testing.assert_array_equal(orders[1], orders[2])
    assert not np.array_equal(orders[0], orders[1])
    rows = opened.seen.source.rows
    assert len(rows._held) < len(rows._starts) - 1


def test_a_large_parquet_file_trains_the_same_everywhere(parquet):
    spec = SPEC.model_copy(update={"validation_split": 0.2})
    results = [dlbridge.train(dense(), parquet, framework=name, spec=spec) for name in FRAMEWORKS]
    assert largest_difference(results[0].model.weights, results[1].model.weights) <= 1e-5
    np.testing.assert_allclose(results[0].history["val_loss"], results[1].history["val_loss"], rtol=1e-5)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_a_csv_file_has_a_header_of_its_own_and_names_of_classes(tmp_path):
    lines = ["sepal,petal,stem,leaf,root,kind"]
    rows = zip(ROWS["x"].tolist(), NAMES[ROWS["label"]], strict=True)
    lines += [",".join([*(repr(v) for v in x), kind]) for x, kind in rows]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    training.train_to_folder(dense(), tmp_path / "a.csv", tmp_path / "run", spec=PLAIN, plot=False, quiet=True)
    model = dlbridge.load(tmp_path / "run")
    assert model.processing.outputs["y"].labels == ("blue", "green", "red")
    wanted = dlbridge.train(dense(), {"x": ROWS["x"], "label": 2 - ROWS["label"]}, spec=PLAIN)
    assert largest_difference(model.weights, wanted.model.weights) <= 1e-6
    found = dlbridge.predict(model, {"x": ROWS["x"]})
    said = np.array(["blue", "green", "red"])[found["y"].argmax(1)]
    np.testing.assert_array_equal(found["y_labels"][:, 0], said)
    assert dlbridge.evaluate(tmp_path / "run", tmp_path / "a.csv")["loss"] > 0


def test_a_csv_file_without_a_header_loses_no_row(tmp_path):
    table = np.column_stack([ROWS["x"], ROWS["label"]])
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", fmt="%.9g")
    spec = PLAIN.model_copy(update={"loss": PLAIN.loss.model_copy(update={"target": "f5"})})
    result = dlbridge.train(dense(), tmp_path / "a.csv", spec=spec)
    assert result.history["loss"] == pytest.approx(dlbridge.train(dense(), ROWS, spec=PLAIN).history["loss"])


BROKEN = {
    "an empty cell": (lambda lines: [*lines[:3], f",{lines[3].split(',', 1)[1]}", *lines[4:]], "NaN in row 2"),
    "a text": (lambda lines: [*lines, "a,2,3,4,5,red"], "5 numbers of a row, and 4 columns .*; sepal holds something"),
    "a column too many": (lambda lines: [f"{line},{place}" for place, line in enumerate(lines)], "and 6 columns"),
    "no label": (lambda lines: [*lines, "1,2,3,4,5,"], "kind: the target is missing in row 50"),
    "one name twice": (lambda lines: [lines[0].replace("petal", "sepal"), *lines[1:]], "two columns .* name 'sepal'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_csv_file_is_said(case, tmp_path):
    changed, words = BROKEN[case]
    rows = zip(ROWS["x"].tolist(), NAMES[ROWS["label"]], strict=True)
    lines = ["sepal,petal,stem,leaf,root,kind", *(",".join([*(repr(v) for v in x), kind]) for x, kind in rows)]
    (tmp_path / "a.csv").write_text("\n".join(changed(lines)) + "\n")
    loss = PLAIN.loss.model_copy(update={"target": "kind"})
    with pytest.raises(TrainingError, match=words):
        dlbridge.train(dense(), tmp_path / "a.csv", spec=PLAIN.model_copy(update={"loss": loss}))


def test_a_folder_without_folders_of_classes_is_no_data(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(FileError, match="it has no folder of images for each class"):
        dlbridge.train(dense(), tmp_path, spec=PLAIN)


def test_a_weight_of_a_row_that_cannot_be_is_named():
    loss = {"op": "SoftmaxCrossEntropyLoss", "sample_weight": "importance"}
    weights = np.where(np.arange(len(ROWS["x"])) == 3, -1.0, 1.0)
    spec = {**PLAIN.model_dump(), "loss": loss}
    with pytest.raises(TrainingError, match=r"importance: the weight of row 3 is -1\.0"):
        dlbridge.train(dense(), {**ROWS, "importance": weights}, spec=spec)


def test_a_stratified_split_finds_the_target_that_is_trained_by():
    labels = np.repeat(NAMES, [30, 10, 10])
    spec = SPEC.model_copy(update={"validation_split": 0.2, "stratify": True})
    columns = {f"f{place}": ROWS["x"][:, place] for place in range(5)}
    opened = opening.open_data(dense(), spec, {**columns, "kind": labels})
    assert len(opened.held_out.targets[0]) == 10


# --- images -----------------------------------------------------------------------------------------------------------

PICTURES = """
dlbridge: 1
name: pictures
inputs: {image: {dtype: float32, shape: [batch, 3, 8, 8]}}
nodes:
  - {op: Conv, channels: 4, kernel_shape: 3}
  - {op: Relu}
  - {op: GlobalAveragePool}
  - {op: Flatten}
  - {op: Linear, features: 3}
outputs: {y: fc1}
"""


@pytest.fixture
def pictures(tmp_path):
    for place, name in enumerate(sorted(NAMES)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(6):
            size = (10 + number, 12, 3)
            pixels = (RNG.random(size) * 100 + 70 * place).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_a_folder_of_images_trains_the_same_in_memory_and_not(pictures, monkeypatch, tmp_path):
    model = dlbridge.description.load(PICTURES)
    spec = SPEC.model_copy(update={"validation_split": 0.34})
    results = [dlbridge.train(model, pictures, framework=name, spec=spec) for name in FRAMEWORKS]
    monkeypatch.setattr(opening, "IN_MEMORY", 100)
    opened = opening.open_data(model, spec, pictures)
    np.testing.assert_array_equal(np.bincount(opened.held_out.bound(opened.held_out.source.all()).targets[0]), [2] * 3)
    monkeypatch.undo()
    assert results[0].model.processing.outputs["y"].labels == tuple(sorted(NAMES))
    assert largest_difference(results[0].model.weights, results[1].model.weights) <= 1e-5
    paths = sorted(pictures.rglob("*.png"))
    found = dlbridge.predict(results[0].model, paths)
    dlbridge.convert(results[0].model, "onnx", tmp_path / "entry")
    session = dlbridge.runtime.load(tmp_path / "entry")
    for place, path in enumerate(paths):
        served = session(image=np.asarray(Image.open(path))[None])
        np.testing.assert_allclose(served["y"][0], found["y"][place], rtol=1e-4, atol=1e-5)
        assert served["y_labels"][0, 0] == found["y_labels"][place, 0]


def test_a_saved_dataset_of_hugging_face_is_read(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    pictures = []
    for _ in range(12):
        Image.fromarray((RNG.random((8, 8, 3)) * 255).astype(np.uint8)).save(tmp_path / "one.png")
        pictures.append({"bytes": (tmp_path / "one.png").read_bytes(), "path": None})
    table = pyarrow.table({"image": pictures, "label": [i % 3 for i in range(12)]})
    file = folder / "data-00000-of-00001.arrow"
    with pyarrow.OSFile(str(file), "wb") as opened, pyarrow.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table)
    features = {"image": {"_type": "Image"}, "label": {"names": sorted(NAMES), "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    spec = TrainingSpec(loss=LOSS, prepare={"image": {"kind": "image", "normalize": True}})
    result = dlbridge.train(dlbridge.description.load(PICTURES), folder, spec=spec)
    assert result.model.processing.outputs["y"].labels == tuple(sorted(NAMES))
    file.write_bytes(b"broken")
    with pytest.raises(FileError, match="broken"):
        dlbridge.train(dlbridge.description.load(PICTURES), folder, spec=spec)


# --- what validates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_data_of_its_own_validates(framework):
    held_out = {name: array[40:] for name, array in ROWS.items()}
    seen = {name: array[:40] for name, array in ROWS.items()}
    spec = SPEC.model_copy(update={"validation_split": 0.2})
    wanted = dlbridge.train(dense(), ROWS, framework=framework, spec=spec)
    found = dlbridge.train(dense(), seen, framework=framework, spec=SPEC, validation=held_out)
    assert found.history == wanted.history


def test_a_stratified_split_holds_back_the_last_of_every_class():
    labels = np.repeat([0, 1, 2], [30, 10, 10])
    spec = SPEC.model_copy(update={"validation_split": 0.2, "stratify": True})
    opened = opening.open_data(dense(), spec, {"x": ROWS["x"], "label": labels})
    assert np.bincount(opened.held_out.targets[0]).tolist() == [6, 2, 2]
    np.testing.assert_array_equal(opened.held_out.inputs["x"][:6], ROWS["x"][24:30])


def labelled(target, name="label"):
    return {"x": ROWS["x"], name: np.array(target, object)}


REFUSED = {
    "a label is missing": (lambda: labelled([*NAMES[ROWS["label"][:-1]], None]), {}, "missing in row 49"),
    "a label is not a number": (lambda: labelled([*NAMES[ROWS["label"][:-1]], np.nan]), {}, "missing in row 49"),
    "a label is empty": (lambda: labelled(["", *NAMES[ROWS["label"][1:]]], "kind"), {}, "kind: .* missing in row 0"),
    "no batches": (list, {}, "no rows"),
    "a function that gives none": (lambda: lambda: iter(()), {}, "no rows"),
    "no target": (lambda: {"x": ROWS["x"]}, {}, "no target beside x"),
    "lists of different lengths": (
        lambda: pyarrow.table({"x": [[1.0] * (4 + row % 2) for row in range(50)], "label": ROWS["label"]}),
        {},
        "x.*holds no numbers",
    ),
    "names of another target": (lambda: ROWS, {"labels": {"lable": NAMES.tolist()}}, "'lable'.*no loss\n.*'label'"),
    "a group of nothing": (
        lambda: ROWS,
        {"optimizer": {"kind": "sgd", "groups": [{"match": "linaer1.*"}]}},
        "'linaer1.*' in groups of the optimizer is the name of no weight",
    ),
    "nothing that does not decay": (
        lambda: ROWS,
        {"optimizer": {"kind": "sgd", "no_decay": ["*.bais", "*norm*"]}},
        r"'\*.bais' in no_decay",
    ),
    "no weight that does not decay": (
        lambda: ROWS,
        {"optimizer": {"kind": "sgd", "no_decay": ["*.bias", "head.bias"]}},
        "'head.bias' in no_decay",
    ),
    "a generator": (lambda: batches(), {}, "read once"),
    "batches are not split": (lambda: batches, {"validation_split": 0.2}, "cannot be split"),
    "names of numbers": (
        lambda: {"x": ROWS["x"], "label": NAMES[ROWS["label"]]},
        {"loss": {"op": "MeanSquaredError"}},
        "names of classes",
    ),
    "fewer classes": (lambda: {"x": ROWS["x"], "label": np.array(["a", "b"] * 25)}, {}, "has 3 classes"),
    "a number": (lambda: 3, {}, "is no data"),
    "a tuple of two inputs": (lambda: [((ROWS["x"], ROWS["x"]), ROWS["label"])], {}, "2 inputs are given"),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case, framework):
    make, changed, words = REFUSED[case]
    spec = TrainingSpec.model_validate({**SPEC.model_dump(), **changed})
    with pytest.raises(TrainingError, match=words):
        dlbridge.train(dense(), make(), framework=framework, spec=spec)


def test_a_column_that_nothing_reads_may_be_anything():
    lists = pyarrow.array([[1] * (row % 3) for row in range(50)])
    table = pyarrow.table({"x": list(ROWS["x"]), "label": ROWS["label"], "notes": lists})
    assert dlbridge.train(dense(), table, spec=SPEC).history == dlbridge.train(dense(), ROWS, spec=SPEC).history


def test_settings_are_a_specification():
    found = dlbridge.train(dense(), ROWS, spec={"loss": LOSS, "epochs": 2})
    assert found.history == dlbridge.train(dense(), ROWS, spec=TrainingSpec(loss=LOSS, epochs=2)).history
    assert dlbridge.evaluate(found.model, ROWS, spec={"loss": LOSS})["loss"] > 0
    with pytest.raises(DescriptionError, match=r"unknown key 'epoch'\n.*'epochs'"):
        dlbridge.train(dense(), ROWS, spec={"loss": LOSS, "epoch": 2})
    with pytest.raises(TrainingError, match=r"not a str.*\n.*--spec FILE"):
        dlbridge.train(dense(), ROWS, spec="training.yaml")
    with pytest.raises(DescriptionError, match="two classes of 'label' have the name 'a'"):
        dlbridge.train(dense(), ROWS, spec={"loss": LOSS, "labels": {"label": ["a", "a", "b"]}})


def test_exclusions_may_name_more_than_the_model_has():
    optimizer = {"kind": "sgd", "no_decay": ["*.bias", "*norm*"], "groups": [{"match": "*1.weight"}]}
    spec = TrainingSpec.model_validate({**SPEC.model_dump(), "optimizer": optimizer})
    assert dlbridge.train(dense(), ROWS, spec=spec).history["loss"]


def test_a_name_that_is_not_trained_on_is_refused():
    labels = np.array(["a", "b", "c"] * 14 + ["d"] * 8)
    spec = SPEC.model_copy(update={"validation_split": 0.2})
    with pytest.raises(TrainingError, match="'d' is none of the classes a, b, c"):
        dlbridge.train(dense(), {"x": ROWS["x"], "label": labels}, spec=spec)


NORMED = """
dlbridge: 1
name: normed
inputs: {x: {dtype: float32, shape: [batch, 5]}}
nodes:
  - {name: before, op: Linear, features: 6}
  - SHAPED{name: norm, op: BatchNormalization}
  - {op: Flatten}
  - {name: last, op: Linear, features: 3}
outputs: {y: last}
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_batch_normalization_is_not_trained_on_one_number_of_a_channel(framework):
    model = dlbridge.description.load(NORMED.replace("SHAPED", ""))
    spec = SPEC.model_copy(update={"batch_size": 7})
    with pytest.raises(TrainingError, match=r"the last batch .* one row, .* 'norm' has no variance\n.*50 rows"):
        dlbridge.train(model, ROWS, spec=spec, framework=framework)
    parts = [{name: array[:size] for name, array in ROWS.items()} for size in (4, 1)]
    with pytest.raises(TrainingError, match="batch 2 has one row"):
        dlbridge.train(model, parts, spec=spec, framework=framework)
    dlbridge.train(model, ROWS, spec=SPEC, framework=framework, validation=parts)
    several = dlbridge.description.load(NORMED.replace("SHAPED", "{name: shaped, op: Reshape, shape: [0, 3, 2]}\n  - "))
    dlbridge.train(several, ROWS, spec=spec, framework=framework)
