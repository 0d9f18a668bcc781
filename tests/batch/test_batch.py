"""dlbridge.batch: every row once, whatever stops the run, and bad rows with their reason."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from dlbridge import batch
from dlbridge.batch import job, running, units
from dlbridge.cli.run import command
from dlbridge.errors import DlbridgeError, FileError, SignatureError
from tests.helpers.onnx_text import save_graph

RNG = np.random.default_rng(0)


@pytest.fixture
def double(tmp_path):
    """y is twice x; c is x's row of a table of four rows."""
    body = "y = Add(x, x)"
    return save_graph(tmp_path / "double.onnx", "(float[batch, 3] x) => (float[batch, 3] y)", body)


def _rows(count, **more):
    x = RNG.normal(size=(count, 3)).astype("float32")
    return {"id": np.arange(count), "x": x.tolist(), **more}


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(units, "_ROWS", 20)


@pytest.fixture
def files(tmp_path, small_units):
    """100 rows in three files, in row groups of 8: six units."""
    (tmp_path / "in").mkdir()
    table = pa.table(_rows(100, label=[f"row {i}" for i in range(100)]))
    for number, (start, stop) in enumerate(((0, 50), (50, 90), (90, 100))):
        pq.write_table(table.slice(start, stop - start), tmp_path / f"in/{number}.parquet", row_group_size=8)
    return table


def _results(out):
    return pa.concat_tables([pq.read_table(p) for p in sorted(out.glob("part-*.parquet"))])


def test_each_row_once_with_the_columns_that_are_no_input(double, files, tmp_path):
    seen = []
    done = batch.run(
        double, tmp_path / "in/*.parquet", tmp_path / "out", batch_size=7, progress=lambda *a: seen.append(a)
    )
    found = _results(tmp_path / "out")
    assert found.column_names == ["id", "label", "y"]
    assert found["id"].to_pylist() == list(range(100))
    assert found["label"].to_pylist() == files["label"].to_pylist()
    np.testing.assert_array_equal(np.array(found["y"].to_pylist()), 2 * np.array(files["x"].to_pylist()))
    assert (done.rows, done.rejected, done.parts, done.found) == (100, 0, 6, 0)
    assert seen[-1] == (100, 100) and len(seen) == 6


def test_a_run_that_was_stopped_goes_on(double, files, tmp_path, monkeypatch):
    ran = []
    real = job.Worker.run

    def run(worker, number):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(number)
        return real(worker, number)

    monkeypatch.setattr(job.Worker, "run", run)
    with pytest.raises(KeyboardInterrupt):
        batch.run(double, tmp_path / "in", tmp_path / "out")
    monkeypatch.setattr(job.Worker, "run", real)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("part-*")}
    done = batch.run(double, tmp_path / "in", tmp_path / "out")
    assert len(before) == 2 and done.found == 2
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert _results(tmp_path / "out")["id"].to_pylist() == list(range(100))


def test_a_run_that_is_done_is_done(double, files, tmp_path):
    first = batch.run(double, tmp_path / "in", tmp_path / "out")
    again = batch.run(double, tmp_path / "in", tmp_path / "out")
    assert (again.found, again.rows) == (first.parts, 100)


@pytest.mark.parametrize("changed", ["model", "data", "batch size", "keep"])
def test_another_run_does_not_go_on(double, files, tmp_path, changed):
    batch.run(double, tmp_path / "in", tmp_path / "out")
    options = {}
    if changed == "model":
        save_graph(double, "(float[batch, 3] x) => (float[batch, 3] y)", "y = Neg(x)")
    elif changed == "data":
        pq.write_table(files.slice(90), tmp_path / "in/2.parquet")
    elif changed == "batch size":
        options = {"batch_size": 5}
    else:
        options = {"keep": ["id"]}
    with pytest.raises(FileError, match=changed):
        batch.run(double, tmp_path / "in", tmp_path / "out", **options)
    batch.run(double, tmp_path / "in", tmp_path / "out", force=True, **options)


def test_force_removes_the_results_of_runs_alone(double, files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("...")
    for force in (False, True):
        with pytest.raises(FileError):
            batch.run(double, tmp_path / "in", tmp_path / "out", force=force)
    assert (tmp_path / "out/thesis.tex").exists()


def test_two_runs_do_not_write_into_one_folder(double, files, tmp_path):
    with running._alone(tmp_path / "out"), pytest.raises(FileError, match="another run"):
        batch.run(double, tmp_path / "in", tmp_path / "out")


def test_a_part_with_a_row_too_few_is_not_whole(double, files, tmp_path):
    batch.run(double, tmp_path / "in", tmp_path / "out")
    part = tmp_path / "out/part-00001.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(FileError, match="rows 24 to 47"):
        batch.run(double, tmp_path / "in", tmp_path / "out")


# --- bad rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def table_rows(tmp_path):
    """A model that fails on an index that its table does not have."""
    body = "y = Gather(table, index)"
    text = "(int64[batch] index) => (float[batch, 2] y) <float[4, 2] table = {0, 1, 2, 3, 4, 5, 6, 7}>"
    return save_graph(tmp_path / "rows.onnx", text, body)


def _bad(tmp_path, values, **columns):
    pq.write_table(pa.table({"id": list(range(len(values))), **columns}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def test_rows_that_the_model_cannot_run_are_rejected(table_rows, tmp_path):
    values = [i % 4 for i in range(40)]
    values[3], values[17], values[18] = 9, None, -70
    data = _bad(tmp_path, values, index=values)
    done = batch.run(table_rows, data, tmp_path / "out", batch_size=16)
    assert (done.rows, done.rejected) == (37, 3)
    good, bad = _results(tmp_path / "out"), pq.read_table(tmp_path / "out/rejected/part-00000.parquet")
    assert sorted(good["id"].to_pylist() + bad["id"].to_pylist()) == list(range(40))
    assert bad["rejected_row"].to_pylist() == [3, 17, 18]
    assert "out of data bounds" in bad["rejected_reason"][0].as_py() and "empty" in bad["rejected_reason"][1].as_py()
    expected = [[2 * v, 2 * v + 1] for i, v in enumerate(values) if i not in (3, 17, 18)]
    assert good["y"].to_pylist() == expected


def test_strict_ends_at_the_first_bad_row(table_rows, tmp_path):
    data = _bad(tmp_path, [0] * 40, index=[0] * 39 + [9])
    with pytest.raises(SignatureError, match="row 39"):
        batch.run(table_rows, data, tmp_path / "out", strict=True)
    assert not list((tmp_path / "out").glob("part-*"))


def test_data_that_fit_nowhere_are_an_error_and_no_rejects(double, tmp_path):
    data = _bad(tmp_path, [0] * 40, x=[[1.0, 2.0]] * 40)
    with pytest.raises(SignatureError, match="none of the 40 rows"):
        batch.run(double, data, tmp_path / "out")
    assert not list((tmp_path / "out").glob("part-*"))


def test_lists_of_all_lengths(tmp_path):
    model = save_graph(tmp_path / "sum.onnx", "(float[batch, n] x) => (float[batch, n] y)", "y = Neg(x)")
    lists = [[float(i)] * (1 + i * i % 5) for i in range(50)]
    batch.run(model, _bad(tmp_path, lists, x=lists), tmp_path / "out")
    assert _results(tmp_path / "out")["y"].to_pylist() == [[-v for v in row] for row in lists]


def test_images_and_one_that_is_none(tmp_path):
    (tmp_path / "in/b").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(np.full((4, 5), number * 10, np.uint8)).save(tmp_path / f"in/b/{number}.png")
    (tmp_path / "in/b/3.png").write_bytes(b"no image")
    graph = "(uint8[batch, 4, 5] image) => (float[batch] mean)"
    body = (
        "axes = Constant <value_ints = [1, 2]> () f = Cast <to = 1> (image) mean = ReduceMean <keepdims = 0> (f, axes)"
    )
    model = save_graph(tmp_path / "mean.onnx", graph, body)
    done = batch.run(model, tmp_path / "in", tmp_path / "out")
    found = _results(tmp_path / "out")
    assert found["path"].to_pylist() == [f"b/{n}.png" for n in (0, 1, 2, 4, 5)]
    assert found["mean"].to_pylist() == [0, 10, 20, 40, 50]
    bad = pq.read_table(tmp_path / "out/rejected/part-00000.parquet").to_pylist()
    assert done.rejected == 1 and bad[0]["path"] == "b/3.png" and "not an image" in bad[0]["rejected_reason"]


# --- what cannot be asked for -----------------------------------------------------------------------------------------


def test_a_column_of_the_name_of_an_output(double, tmp_path):
    data = _bad(tmp_path, [0] * 2, x=[[1.0, 2.0, 3.0]] * 2, y=[1, 2])
    with pytest.raises(FileError, match="column 'y'"):
        batch.run(double, data, tmp_path / "out")
    batch.run(double, data, tmp_path / "out", keep=["id"], force=True)


def test_a_model_that_takes_four_rows_no_more_and_no_fewer(tmp_path):
    model = save_graph(tmp_path / "four.onnx", "(float[4, 3] x) => (float[4, 3] y)", "y = Neg(x)")
    data = _bad(tmp_path, [0] * 6, x=[[1.0, 2.0, 3.0]] * 6)
    with pytest.raises(SignatureError, match="4 rows at a time"):
        batch.run(model, data, tmp_path / "out")


def test_a_later_file_with_another_type(double, files, tmp_path):
    table = pa.table({"id": [1], "label": ["a"], "x": [["1", "2", "3"]]})
    pq.write_table(table, tmp_path / "in/3.parquet")
    with pytest.raises(FileError, match="column 'x' is list<element: string>"):
        batch.run(double, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("data", ["nothing/*.parquet", "rows.csv", "broken.parquet", "empty"])
def test_data_that_are_not_there(double, tmp_path, data):
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DlbridgeError):
        batch.run(double, tmp_path / data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the command ------------------------------------------------------------------------------------------------------


def test_two_runs_never_write_one_folder_and_no_lock_is_left(double, files, tmp_path):
    folder = tmp_path / "results"
    with running._alone(folder / "out"), pytest.raises(FileError, match="another run is writing there"):
        batch.run(double, tmp_path / "in", folder / "out")
    batch.run(double, tmp_path / "in", folder / "out")
    assert [path.name for path in folder.iterdir()] == ["out"]


def test_the_command(double, files, tmp_path):
    arguments = [str(double), "--data", str(tmp_path / "in/*.parquet"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 100
    assert "6 of 6 parts by an earlier run" in CliRunner().invoke(command, arguments).output
    for wrong in ([str(double)], [*arguments, "-o", "x.npz"], arguments[:3]):
        assert CliRunner().invoke(command, wrong).exit_code == 2


def test_a_run_that_is_killed_twice(double, tmp_path):
    """Killed at any time; in the end every row is there once."""
    (tmp_path / "in").mkdir()
    for number in range(20):
        pq.write_table(pa.table(_rows(500)), tmp_path / f"in/{number:02}.parquet")
    code = "import sys; from dlbridge import batch; batch.run(*sys.argv[1:], batch_size=1)"
    arguments = [sys.executable, "-c", code, str(double), str(tmp_path / "in"), str(tmp_path / "out")]
    for wanted in (3, 8):
        child = subprocess.Popen(arguments)
        while child.poll() is None and len(list((tmp_path / "out").glob("part-*"))) < wanted:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    done = batch.run(double, tmp_path / "in", tmp_path / "out", batch_size=1)
    assert 8 <= done.found < 20 and done.rows == 10_000
    assert not list((tmp_path / "out").rglob(".*"))
