"""dlbridge.batch on Ray Data: the same parts as in one process, whatever dies."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlbridge import batch
from dlbridge.errors import SignatureError
from tests.helpers.onnx_text import save_graph

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def model(tmp_path):
    return save_graph(tmp_path / "double.onnx", "(float[batch, 3] x) => (float[batch, 3] y)", "y = Add(x, x)")


@pytest.fixture
def data(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(12):
        x = RNG.normal(size=(500, 3)).astype("float32").tolist()
        x[7] = None if number == 3 else x[7]
        pq.write_table(pa.table({"id": np.arange(500) + 500 * number, "x": x}), tmp_path / f"in/{number:02}.parquet")
    return tmp_path / "in"


def _all(out):
    return {str(p.relative_to(out)): pq.read_table(p) for p in out.rglob("*.parquet")}


def test_the_same_parts_as_in_one_process(cluster, model, data, tmp_path):
    here = batch.run(model, data, tmp_path / "here")
    there = batch.run(model, data, tmp_path / "there", on="ray", workers=2)
    assert (there.rows, there.rejected) == (here.rows, here.rejected) == (5999, 1)
    first, second = _all(tmp_path / "here"), _all(tmp_path / "there")
    assert first.keys() == second.keys() and all(first[name].equals(second[name]) for name in first)


def test_a_worker_that_is_killed(cluster, model, data, tmp_path):
    out = tmp_path / "out"
    killed = []

    def kill():
        while not list(out.glob("part-*")):
            time.sleep(0.01)
        worker = next(p for p in Path("/proc").glob("[0-9]*") if b"MapWorker" in (p / "cmdline").read_bytes())
        killed.append(int(worker.name))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    done = batch.run(model, data, out, batch_size=1, on="ray", workers=2)
    thread.join()
    assert killed and done.rows == 5999
    ids = pa.concat_tables([t for t in _all(out).values() if "y" in t.column_names])["id"].to_pylist()
    assert sorted(ids) == sorted({*range(6000)} - {3 * 500 + 7})


def test_what_does_not_fit_is_said_before_a_cluster_is_asked(model, tmp_path):
    pq.write_table(pa.table({"z": [1.0] * 40}), tmp_path / "in.parquet")
    with pytest.raises(SignatureError):
        batch.run(model, tmp_path / "in.parquet", tmp_path / "out", on="ray")


def test_an_error_of_a_worker_is_one_of_ours(cluster, model, data, tmp_path):
    with pytest.raises(SignatureError, match="row 7"):
        batch.run(model, data, tmp_path / "out", on="ray", workers=2, strict=True)
