"""Training by several processes (``torchrun``) reaches the weights that one process reaches."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dlbridge import description, load
from dlbridge.errors import TrainingError
from dlbridge.training import group as groups
from dlbridge.training.data import Batch, Dataset
from dlbridge.training.spec import TrainingSpec
from tests.helpers import parity
from tests.helpers.paths import ROOT

WORKERS = 2


class _Alone:
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("rows", "size"), [(8, 2), (7, 2), (7, 3), (2, 3), (1, 4)])
def test_shards_are_the_batch(rows, size):
    batch = Batch({"x": np.arange(rows)}, (np.arange(rows),), (None,), rows)
    parts = [groups.shard(batch, _Alone(rank, size)) for rank in range(size)]
    assert np.concatenate([part.inputs["x"][: part.rows] for part in parts]).tolist() == list(range(rows))
    assert all(len(part.inputs["x"]) >= 1 for part in parts)
    assert sum(part.share for part in parts) == pytest.approx(size)
    gradient = sum(part.share * part.inputs["x"].mean() for part in parts) / size
    assert gradient == pytest.approx(np.arange(rows).mean())


def _case(tmp_path, name, **what):
    """A model, its data and its specification as files: 54 steps."""
    made, arrays, spec = parity.case(name, steps=12, **what)
    spec = type(spec).model_validate({**spec.model_dump(), "epochs": 9, "validation_split": 0.25})
    arrays = {key: array[:61] for key, array in arrays.items()}  # the last batch is a small one
    made.save(tmp_path / "model")
    np.savez(tmp_path / "data.npz", **arrays)
    (tmp_path / "spec.json").write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
    return ["train", "model", "--data", "data.npz", "--spec", "spec.json", "--no-plot"]


def _start(tmp_path, *command, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    errors = (tmp_path / f"errors{variables.get('RANK', '')}").open("w+")
    return subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, env=environment, stderr=errors), errors


def _end(process, errors):
    code = process.wait(300)
    errors.seek(0)
    assert code == 0, errors.read()[-3000:]


def _by_torchrun(tmp_path, arguments):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(WORKERS), "-m", "dlbridge")
    _end(*_start(tmp_path, *torchrun, *arguments))


def _by_tensorflow(tmp_path, arguments):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(WORKERS)]
        workers = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    started = []
    for rank in range(WORKERS):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
        started.append(_start(tmp_path, "dlbridge", *arguments, TF_CONFIG=json.dumps(config), RANK=str(rank)))
    for found in started:
        _end(*found)


@pytest.mark.parametrize(
    ("framework", "together", "name", "what"),
    [
        ("pytorch", _by_torchrun, "MLP", {"optimizer": "Adam"}),
        pytest.param("keras", _by_tensorflow, "MLP", {"optimizer": "Adam"}, marks=pytest.mark.slow),
        pytest.param("pytorch", _by_torchrun, "transformer", {}, marks=pytest.mark.slow),
        pytest.param("keras", _by_tensorflow, "transformer", {}, marks=pytest.mark.slow),
    ],
)
def test_two_processes_reach_what_one_reaches(tmp_path, framework, together, name, what):
    arguments = [*_case(tmp_path, name, **what), "--in", framework]
    _end(*_start(tmp_path, "dlbridge", *arguments, "-o", "one"))
    together(tmp_path, [*arguments, "-o", "two"])
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    for key, array in one.weights.items():
        np.testing.assert_allclose(two.weights[key], array, rtol=1e-9, atol=1e-9 * np.abs(array).max(), err_msg=key)
    first, second = (json.loads((tmp_path / n / "history.json").read_text()) for n in ("one", "two"))
    assert first.keys() == second.keys() and "val_loss" in first
    for key, values in first.items():
        np.testing.assert_allclose(second[key], values, rtol=1e-9, err_msg=key)


_LEAVES = """
import atexit
import torch.distributed as dist
atexit.register(lambda: print("in a group:", dist.is_initialized()))  # what is registered first is called last
from dlbridge.frameworks.pytorch.group import Group
print("of", Group().size)
"""


@pytest.mark.pytorch
def test_a_process_leaves_its_group_before_it_ends():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    joined = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**os.environ, **joined, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", _LEAVES], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("of 1\nin a group: False\n", 0), done.stderr[-3000:]


def _refused(model, loss, rows=None):
    spec = TrainingSpec.model_validate({"loss": loss, "optimizer": {"kind": "sgd"}, "batch_size": 4})
    data = Dataset({"x": np.zeros((4, 2))}, (np.zeros((4, 2)),), (None,), spec)
    with pytest.raises(TrainingError) as error:
        groups.check(model, spec, data)
    return str(error.value)


def _model(op):
    text = "dlbridge: 1\nname: m\ninputs: {x: {dtype: float32, shape: [batch, 2]}}\nnodes:\n  - {name: y, " + op + "}\n"
    return description.load(text + "outputs: {y: y}\n")


def test_what_is_not_the_same_by_parts_is_refused():
    linear = _model("op: Linear, features: 2")
    assert "statistics of a batch" in _refused(_model("op: BatchNormalization"), {"op": "MeanSquaredError"})
    assert "is a sum" in _refused(linear, {"op": "MeanSquaredError", "reduction": "sum"})
    assert "mean by sample_weight" in _refused(linear, {"op": "MeanSquaredError", "sample_weight": "w"})


def test_rows_that_depend_on_each_other_are_found_by_trying():
    spec = TrainingSpec.model_validate({"loss": {"op": "MeanSquaredError"}, "optimizer": {"kind": "sgd"}})
    data = Dataset({"x": np.random.default_rng(0).random((8, 2))}, (np.zeros((8, 2)),), (None,), spec)
    with pytest.raises(TrainingError, match="depends on the other rows"):
        groups.check_rows(lambda arrays: {"y": arrays["x"] - arrays["x"].mean(0)}, data, 2)
    groups.check_rows(lambda arrays: {"y": 2 * arrays["x"]}, data, 2)


# --- on Ray (make scale) ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_workers_on_ray_reach_what_one_process_reaches(tmp_path, framework):
    pytest.importorskip("ray")
    arguments = [*_case(tmp_path, "MLP", optimizer="Adam"), "--in", framework]
    _end(*_start(tmp_path, "dlbridge", *arguments, "-o", "one"))
    _end(*_start(tmp_path, "dlbridge", *arguments, "-o", "two", "--on", "ray", "--workers", "2"))
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    for key, array in one.weights.items():
        np.testing.assert_allclose(two.weights[key], array, rtol=1e-9, atol=1e-9 * np.abs(array).max(), err_msg=key)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_an_epoch_at_most(tmp_path):
    pytest.importorskip("ray")
    arguments = [*_case(tmp_path, "MLP", optimizer="Adam"), "--in", "pytorch", "--epochs", "150"]
    _end(*_start(tmp_path, "dlbridge", *arguments, "-o", "one"))
    process, errors = _start(tmp_path, "dlbridge", *arguments, "-o", "two", "--on", "ray", "--workers", "2")
    state = tmp_path / "two/checkpoint/state.json"
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    workers = [p for p in Path("/proc").glob("[0-9]*") if b"RayTrainWorker" in _command(p)]
    os.kill(int(workers[0].name), signal.SIGKILL)
    assert json.loads(state.read_text())["epoch"] < 140
    _end(process, errors)
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    for key, array in one.weights.items():
        np.testing.assert_allclose(two.weights[key], array, rtol=1e-9, atol=1e-9 * np.abs(array).max(), err_msg=key)


def _command(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
