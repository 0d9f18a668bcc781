"""Loading, unloading, new versions, and what fails."""

import json
import os
import signal
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlbridge.serving.repository import Repository
from tests.helpers.serving import start, worker_of, workers_of, write_entry


@pytest.fixture
def running(tmp_path):
    write_entry(tmp_path, "model", factor=2.0)
    running = start(tmp_path, "--poll", "0.1")
    yield running
    if running.process.poll() is None:
        running.stop()


def answer(running) -> list[float]:
    status, found, _ = running.infer("model", [[1, 1, 1]])
    assert status == 200, found
    return found["outputs"][0]["data"]


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_new_version_takes_over_without_a_lost_request(running):
    stop, seen = threading.Event(), []

    def ask():
        while not stop.is_set():
            seen.append(answer(running)[0])

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for version in (2, 3):
        write_entry(running.repository, "model", factor=float(version + 1), version=version)
        until(lambda version=version: seen[-1:] == [version + 1.0])
    stop.set()
    for asker in askers:
        asker.join()
    assert set(seen) == {2.0, 3.0, 4.0}
    rows = running.ask("POST", "/v2/repository/index")[1]
    assert [row["version"] for row in rows if row["state"] == "READY"] == ["3"]


@pytest.mark.parametrize("kind", ["garbage", "certificate"])
def test_a_version_that_fails_leaves_the_old_one_in_its_place(running, kind):
    folder = running.repository / "model" / "2"
    if kind == "garbage":
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"\x08garbage" * 100)
    else:
        folder.mkdir()
        (folder / "certificate.json").write_text('{"passed": false}')
        write_entry(running.repository, "model", version=2)

    def failed():
        rows = running.ask("POST", "/v2/repository/index")[1]
        return [row for row in rows if row["version"] == "2" and row["state"] == "UNAVAILABLE" and row["reason"]]

    until(failed)
    assert answer(running) == [2.0, 2.0, 2.0]


def test_a_worker_that_is_killed_is_started_again(running):
    answer(running)
    killed = []
    for _ in range(3):
        pid = worker_of(running)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
        until(lambda: worker_of(running) not in (None, *killed))
        until(lambda: running.infer("model", [[1, 1, 1]])[0] == 200)
    assert answer(running) == [2.0, 2.0, 2.0]


def test_a_worker_that_is_killed_while_it_is_started_again(running):
    """The one that was being started is given up, and one other takes its place, not two."""
    answer(running)
    killed = []
    for _ in range(3):
        until(lambda: worker_of(running) not in (None, *killed))
        killed.append(worker_of(running))
        os.kill(killed[-1], signal.SIGKILL)
    until(lambda: worker_of(running) not in (None, *killed))
    assert answer(running) == [2.0, 2.0, 2.0]
    time.sleep(1.0)
    assert len(workers_of(running)) == 1
    os.kill(worker_of(running), signal.SIGKILL)
    until(lambda: running.infer("model", [[1, 1, 1]])[0] == 200)
    assert len(workers_of(running)) == 1


def test_unload_and_load(running):
    running.stop()
    again = start(running.repository)
    assert again.ask("POST", "/v2/repository/models/model/unload")[0] == 200
    status, found, headers = again.infer("model", [[1, 1, 1]])
    assert status == 503 and "unloaded" in found["error"] and headers["retry-after"]
    assert again.ask("POST", "/v2/repository/models/model/load", {})[0] == 200
    assert answer(again) == [2.0, 2.0, 2.0]
    assert again.stop() == 0


def test_what_is_queued_is_answered_before_the_server_ends(running):
    big = np.ones((20000, 3))
    answers = []
    askers = [threading.Thread(target=lambda: answers.append(running.infer("model", big))) for _ in range(8)]
    for asker in askers:
        asker.start()
    time.sleep(0.3)
    code = running.stop()
    for asker in askers:
        asker.join()
    assert code == 0
    assert [status for status, _, _ in answers] == [200] * len(askers)


def test_a_link_that_leaves_the_repository_is_not_followed(tmp_path):
    outside = write_entry(tmp_path / "outside", "secret")
    repository = tmp_path / "repository"
    write_entry(repository, "model")
    (repository / "linked").symlink_to(outside)
    inner = repository / "inner" / "1"
    inner.mkdir(parents=True)
    (inner / "model.onnx").symlink_to(outside / "1" / "model.onnx")
    running = start(repository)
    rows = {row["name"]: row for row in running.ask("POST", "/v2/repository/index")[1]}
    assert "linked" not in rows
    assert rows["inner"]["state"] == "UNAVAILABLE" and "leaves the repository" in rows["inner"]["reason"]
    assert running.infer("model", [[1, 1, 1]])[0] == 200
    running.stop()


def passed(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"passed": value}))


def test_the_certificate_of_an_entry_speaks_for_its_first_version_alone(tmp_path):
    for name, value in (("good", True), ("bad", False)):
        write_entry(tmp_path, name, "version_policy { all { } }")
        write_entry(tmp_path, name, version=2)
        passed(tmp_path / name / "certificate.json", value)
    running = start(tmp_path)
    rows = running.ask("POST", "/v2/repository/index")[1]
    states = {(row["name"], row["version"]): row["state"] for row in rows}
    assert states == {
        ("good", "1"): "READY",
        ("good", "2"): "READY",
        ("bad", "1"): "UNAVAILABLE",
        ("bad", "2"): "READY",
    }
    assert running.stop() == 0


def test_a_version_whose_warm_up_fails_leaves_the_old_one_in_its_place(tmp_path):
    """The second version takes one row alone, which is only found when it is run."""
    sample = 'inputs { key: "x" value { data_type: TYPE_FP32 dims: [3] zero_data: true } }'
    write_entry(tmp_path, "model", f"max_batch_size: 4 model_warmup {{ batch_size: 2 {sample} }}")
    running = start(tmp_path)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("batch", 3)) for n in "xy"]
    shape = numpy_helper.from_array(np.array([1, 3], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], "one", ports[:1], ports[1:], [shape]
    )
    (tmp_path / "model" / "2").mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "model" / "2" / "model.onnx")
    status, found, _ = running.ask("POST", "/v2/repository/models/model/load", {})
    assert status == 400 and "could not run it" in found["error"]
    assert answer(running) == [2.0, 2.0, 2.0]
    rows = running.ask("POST", "/v2/repository/index")[1]
    assert {row["version"]: row["state"] for row in rows} == {"1": "READY", "2": "UNAVAILABLE"}
    assert running.stop() == 0


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A server that does not look for changes."""
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "model", "max_batch_size: 4")
    write_entry(repository, "model", factor=3.0, version=2)
    running = start(repository)
    yield running
    assert running.stop() == 0


def load(running, **parameters):
    status, found, _ = running.ask("POST", "/v2/repository/models/model/load", {"parameters": parameters})
    return status, found


def test_a_configuration_of_the_request(still):
    given = {"max_batch_size": 8, "version_policy": {"specific": {"versions": [1]}}}
    assert load(still, config=json.dumps(given))[0] == 200
    assert still.ask("GET", "/v2/models/model/config")[1]["max_batch_size"] == 8
    assert answer(still) == [2.0, 2.0, 2.0]
    assert load(still)[0] == 200
    assert still.ask("GET", "/v2/models/model/config")[1]["max_batch_size"] == 4
    assert answer(still) == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("{", "not a model configuration"),
        ('{"max_batch": 3}', "max_batch"),
        ('{"name": "other"}', "its folder is"),
        ('{"max_batch_size": 1, "input": [{"name": "nope", "data_type": "TYPE_FP32", "dims": [3]}]}', "nope"),
        ("[" * 2000, "not a model configuration"),
        (7, "no text"),
    ],
)
def test_a_configuration_of_the_request_that_is_none(still, config, word):
    status, found = load(still, config=config)
    assert status == 400 and word in found["error"]
    assert answer(still) == [3.0, 3.0, 3.0]
    assert still.ask("GET", "/v2/models/model/config")[1]["max_batch_size"] == 4


def test_files_of_the_request_are_refused(still):
    status, found = load(still, **{"config": "{}", "file:1/model.onnx": "AAAA"})
    assert status == 501 and "file:1/model.onnx" in found["error"]
    assert answer(still) == [3.0, 3.0, 3.0]


def test_the_entries_of_a_pair_are_called_by_its_folder_unless_that_is_the_repository(tmp_path):
    for name in ("encoder", "decoder"):
        write_entry(tmp_path / "t5", name, config=f'name: "{name}"')
    write_entry(tmp_path, "other")
    (tmp_path / "half" / "encoder").mkdir(parents=True)
    whole = Repository(tmp_path)
    assert whole.names() == ["other", "t5.decoder", "t5.encoder"]
    assert whole.config("t5.encoder").name == "t5.encoder"
    write_entry(tmp_path / "t5", "another")
    assert Repository(tmp_path / "t5").names() == ["another", "decoder", "encoder"]


def test_one_file_that_cannot_be_loaded_ends_the_server(tmp_path):
    file, log = tmp_path / "broken.onnx", tmp_path / "log"
    file.write_bytes(b"no model")
    with pytest.raises(AssertionError):
        start(file, log=log)
    assert "error: broken, version 1: " in log.read_text(), log.read_text()
    assert "onnxruntime cannot load the model" in log.read_text()
