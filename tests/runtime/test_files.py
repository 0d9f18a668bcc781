"""dlbridge.runtime on files: what is read into which input, what is written, and what is refused."""

import io
import zipfile

import numpy as np
import pytest

from dlbridge.errors import FileError, SignatureError
from dlbridge.runtime import load, run_file
from dlbridge.runtime.readers import read_batches
from tests.helpers.onnx_text import save_graph

RNG = np.random.default_rng(0)


@pytest.fixture
def double(tmp_path):
    return load(save_graph(tmp_path / "double.onnx", "(float[batch, 3] x) => (float[batch, 3] y)", "y = Add(x, x)"))


@pytest.fixture
def two(tmp_path):
    signature = "(float[batch, 2] x, int64[batch] id) => (float[batch, 2] y, int64[batch] same)"
    return load(save_graph(tmp_path / "two.onnx", signature, "y = Neg(x) same = Identity(id)"))


X = RNG.normal(size=(7, 3)).astype("float32")


def test_npz_in_batches(double, tmp_path):
    np.savez_compressed(tmp_path / "in.npz", x=X.astype("float64"), labels=np.arange(7))
    seen = []
    summary = run_file(double, tmp_path / "in.npz", tmp_path / "out.npz", batch_size=3, progress=seen.append)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], X + X)
    assert summary["rows"] == 7 and summary["batches"] == 3 and seen == ["3 rows", "6 rows", "7 rows"]


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "parquet"])
def test_each_kind_of_file_in_and_out(double, tmp_path, suffix):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    _write(source, {"x": X})
    run_file(double, [str(source)], target, batch_size=4)
    np.testing.assert_array_equal(_read(target, "y", 3), X + X)


def _write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, *arrays.values())
    elif path.suffix == ".csv":
        np.savetxt(path, *arrays.values(), delimiter=",", fmt="%.9g")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({k: v.tolist() for k, v in arrays.items()}), path)


def _read(path, name, width):
    if path.suffix == ".npz":
        return np.load(path)[name]
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".csv":
        assert path.read_text().splitlines()[0] == ",".join(f"{name}.{i}" for i in range(width))
        return np.loadtxt(path, delimiter=",", skiprows=1, dtype="float32")
    import pyarrow.parquet

    return np.array(pyarrow.parquet.read_table(path)[name].to_pylist(), dtype="float32")


def test_csv_columns_by_name(two, tmp_path):
    (tmp_path / "in.csv").write_text("label,x.1,id,x.0\ncat,2,9007199254740993,1\n\ndog,4,-8,3\n")
    (tmp_path / "trained.csv").write_text("x_0,x_1,id,label\n1,2,9007199254740993,cat\n3,4,-8,dog\n")
    for name in ("in.csv", "trained.csv"):
        run_file(two, tmp_path / name, tmp_path / "out.csv", force=True)
        told = (tmp_path / "out.csv").read_text().split()
        assert told == ["y.0,y.1,same", "-1.0,-2.0,9007199254740993", "-3.0,-4.0,-8"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_that_was_trained_on_has_names_of_classes_beside_the_numbers(double, tmp_path, suffix):
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.table({"sepal": X[:, 0], "species": ["setosa"] * 7, "petal": X[:, 1], "width": X[:, 2]})
    source = tmp_path / f"in.{suffix}"
    (pyarrow.csv.write_csv if suffix == "csv" else pyarrow.parquet.write_table)(table, source)
    run_file(double, source, tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), X + X, rtol=1e-6)


def test_a_table_of_names_alone_has_no_rows(double, tmp_path):
    (tmp_path / "in.csv").write_text("a,b,c\n")
    assert list(read_batches([tmp_path / "in.csv"], double.inputs, None)) == []


def test_parquet_columns_of_numbers(two, tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet

    table = {"id": [5, 6], "x.0": [1.0, 2.0], "x.1": [3, 4]}
    parquet.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    run_file(two, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").to_pydict() == {"y": [[-1, -3], [-2, -4]], "same": [5, 6]}


def test_images(tmp_path):
    from PIL import Image

    pixels = RNG.integers(0, 256, size=(2, 4, 5, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for index, array in enumerate(pixels):
        Image.fromarray(array).save(tmp_path / "images" / f"{index}.png")
    cases = {
        "float[batch, 3, 4, 5]": np.moveaxis(pixels, -1, 1) / np.float32(255),
        "uint8[batch, h, w, 3]": pixels,
    }
    for kind, expected in cases.items():
        session = load(save_graph(tmp_path / "image.onnx", f"({kind} x) => ({kind} y)", "y = Identity(x)"))
        run_file(session, tmp_path / "images", tmp_path / "out.npy", force=True)
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    signature = "(float[batch, 1, 8, 8] x) => (float[batch, 1, 8, 8] y)"
    session = load(save_graph(tmp_path / "grey.onnx", signature, "y = Identity(x)"))
    with pytest.raises(SignatureError, match=r"4 rows x 5 columns, the input is x: float32\[batch, 1, 8, 8\]"):
        run_file(session, [tmp_path / "images" / "0.png"], tmp_path / "grey.npy")


def test_a_model_of_a_fixed_batch_gets_that_many_rows(tmp_path):
    session = load(save_graph(tmp_path / "m.onnx", "(float[2, 3] x) => (float[2, 3] y)", "y = Neg(x)"))
    np.save(tmp_path / "in.npy", X[:6])
    assert run_file(session, tmp_path / "in.npy", tmp_path / "out.npy")["batches"] == 3
    np.save(tmp_path / "odd.npy", X)
    with pytest.raises(SignatureError, match="axis 0 is 1, not 2"):
        run_file(session, tmp_path / "odd.npy", tmp_path / "odd_out.npy")
    assert not (tmp_path / "odd_out.npy").exists()


def test_an_output_without_rows_is_refused_in_batches_and_written_whole(tmp_path):
    session = load(
        save_graph(tmp_path / "m.onnx", "(float[batch, 3] x) => (float y)", "y = ReduceSum<keepdims = 0>(x)")
    )
    np.save(tmp_path / "in.npy", X)
    with pytest.raises(SignatureError, match="no row for each"):
        run_file(session, tmp_path / "in.npy", tmp_path / "out.npy", batch_size=2)
    assert run_file(session, tmp_path / "in.npy", tmp_path / "out.npy")["rows"] == 7


_BAD = {
    "pickle.npy": (lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True), "not a .npy file"),
    "pickle.npz": (lambda p: np.savez(p, x=np.array([{}], dtype=object)), "not an array of numbers"),
    "text.npz": (lambda p: p.write_text("no zip"), "not a .npz file"),
    "other.npz": (lambda p: np.savez(p, a=X, b=X), "no array 'x' in the file; there is a, b"),
    "ragged.csv": (lambda p: p.write_text("1,2,3\n4,5\n"), r"ragged.csv:2: 2 cells, 3 expected"),
    "word.csv": (lambda p: p.write_text("a,b,c\n1,2,3\n4,five,6\n"), r"word.csv:3: column 2 has 'five'"),
    "words.csv": (lambda p: p.write_text("a,b,c\n1,2,three\n4,5,6\n"), r"needs 3 column\(s\) of numbers; there are 2"),
    "empty.csv": (lambda p: p.write_text(""), "empty"),
    "wide.csv": (lambda p: p.write_text("1,2,3,4\n"), r"needs 3 column\(s\) of numbers; there are 4"),
    "text.parquet": (lambda p: p.write_text("no"), "not a Parquet file"),
    "text.png": (lambda p: p.write_text("no"), "takes no images"),
    "a.xyz": (lambda p: p.write_text("no"), "(?s)not a kind of file that is read.*known: .npz"),
    "wide.npy": (lambda p: np.save(p, np.ones((2, 4), "float32")), "axis 1 is 4, not 3"),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_file_that_does_not_do_is_said_and_nothing_is_written(double, tmp_path, name):
    make, message = _BAD[name]
    make(tmp_path / name)
    with pytest.raises((FileError, SignatureError), match=message):
        run_file(double, tmp_path / name, tmp_path / "out.npz")
    assert not list(tmp_path.glob("*out.npz*"))


def test_a_header_that_claims_more_than_is_there_takes_no_memory(double, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)})
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(FileError, match="the header says"):
        run_file(double, tmp_path / "liar.npz", tmp_path / "out.npz")


def test_a_zip_bomb_is_refused(double, tmp_path, monkeypatch):
    monkeypatch.setattr("dlbridge.runtime.readers._SUSPICIOUS_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1 << 18, 3), "float32"))
    with pytest.raises(FileError, match="this is no data"):
        run_file(double, tmp_path / "bomb.npz", tmp_path / "out.npz")


@pytest.mark.parametrize(("output", "message"), [("there.npz", "already exists"), ("out.txt", "not a kind of file")])
def test_the_output_is_checked_first(double, tmp_path, output, message):
    (tmp_path / "there.npz").write_text("mine")
    with pytest.raises(FileError, match=message):
        run_file(double, tmp_path / "in.npz", tmp_path / output)
    assert (tmp_path / "there.npz").read_text() == "mine"
