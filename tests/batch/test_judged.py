"""``dlbridge verify MODEL --batch-run FOLDER``: rows that a batch run has written, judged by the original."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dlbridge import batch, convert, load
from dlbridge.cli.verify import command
from dlbridge.errors import FileError
from dlbridge.verification.batch_runs import verify_run
from tests.helpers.paths import ROOT

MODEL = ROOT / "examples" / "cnn_digits.yaml"
RNG = np.random.default_rng(0)


@pytest.fixture
def done(tmp_path):
    """A run of the digits network on 300 rows, three of which have no image."""
    images = RNG.random((300, 64), np.float32).tolist()
    for row in (0, 77, 299):
        images[row] = None
    pq.write_table(pa.table({"id": range(300), "image": images}), tmp_path / "in.parquet", row_group_size=100)
    convert(MODEL, "onnx", tmp_path / "digits", check=False)
    batch.run(tmp_path / "digits", tmp_path / "in.parquet", tmp_path / "out", batch_size=16)
    return tmp_path


def test_a_run_that_is_right(done):
    report = verify_run(load(MODEL), done / "out", rows=50)
    assert report.passed and report.judge and "50 rows" in report.checks[0].message
    assert len(report.cases[0]["image"]) == 50


def test_one_wrong_row_is_found_and_named(done):
    part = done / "out/part-00000.parquet"
    table = pq.read_table(part)
    logits = table["logits"].to_pylist()
    logits[123][4] += 0.01
    place = table["id"][123].as_py()
    pq.write_table(table.set_column(1, table.schema.field(1), pa.array(logits, table.schema.field(1).type)), part)
    report = verify_run(load(MODEL), done / "out", rows=1000)
    assert not report.passed
    assert f"in.parquet, row {place}" in str(report.departures["batch run"])


def test_results_of_another_order_depart(done):
    part = done / "out/part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.take(np.roll(np.arange(len(table)), 1)), part)
    assert not verify_run(load(MODEL), done / "out").passed


def test_the_command(done):
    arguments = [str(MODEL), "--batch-run", str(done / "out"), "--certificate", str(done / "certificate.json")]
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads((done / "certificate.json").read_text())["passed"] is True
    assert CliRunner().invoke(command, ["--batch-run", str(done / "out")]).exit_code == 2


def test_a_run_that_is_not_done(done):
    run = json.loads((done / "out/run.json").read_text())
    del run["result"]
    (done / "out/run.json").write_text(json.dumps(run))
    with pytest.raises(FileError, match="no batch run that is done"):
        verify_run(load(MODEL), done / "out")
