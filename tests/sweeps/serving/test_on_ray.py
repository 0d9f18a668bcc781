"""``dlbridge serve --on ray``: the protocols, by NVIDIA's own clients, and what dies (``make scale``)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.helpers.paths import ROOT
from tests.helpers.serving import Running, heavy, write_entry
from tests.sweeps.serving.test_clients import CLIENT

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
HTTP, GRPC = 18123, 18124


def start(repository, *options):
    command = [sys.executable, "-m", "dlbridge", "serve", str(repository), "--on", "ray", "--http-port", str(HTTP)]
    process = subprocess.Popen(
        [*command, "--grpc-port", str(GRPC), *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    line = process.stdout.readline()
    assert line.startswith("http://"), line
    return Running(process, HTTP, GRPC, repository)


def replicas(app):
    """The processes of a model's replicas."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::ServeReplica:" + app.encode()):
            found.append(int(process.name))
    return found


def test_tritonclient(tmp_path):
    if not CLIENT.exists():
        pytest.skip(f"no tritonclient at {CLIENT}: make serving")
    write_entry(tmp_path, "double")
    write_entry(tmp_path, "slow", "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 200000 }")
    write_entry(tmp_path, "batched", "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }")
    running = start(tmp_path)
    script = Path(__file__).with_name("triton_client.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [CLIENT, script, str(HTTP), str(GRPC)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert running.stop() == 0
    assert done.returncode == 0 and "all passed" in done.stdout, done.stderr


def test_a_replica_that_is_killed_under_load(tmp_path):
    """What was in flight on it gets an error that may be retried; everything else is answered."""
    instances = "max_batch_size: 1 instance_group [{ kind: KIND_CPU count: 2 }]"
    write_entry(tmp_path, "double", instances)
    heavy(tmp_path / "double/1/model.onnx", layers=48)
    running = start(tmp_path)
    statuses, wrong, stop = [], [], threading.Event()
    x = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)

    def ask():
        while not stop.is_set():
            status, answer, headers = running.infer("double", x)
            statuses.append(status)
            if status == 200 and not np.allclose(answer["outputs"][0]["data"], x[0]):
                wrong.append("another number")
            if status != 200 and "Retry-After" not in {k.title() for k in headers}:
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(replicas("double--1")) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # the second comes because requests wait
    assert len(replicas("double--1")) == 2
    os.kill(replicas("double--1")[0], signal.SIGKILL)
    time.sleep(5)
    while len(replicas("double--1")) < 2 and time.monotonic() < deadline + 60:
        time.sleep(0.2)
    before = len(statuses)
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join()
    running.stop()
    failed = [status for status in statuses if status != 200]
    assert not wrong and set(failed) <= {503} and len(failed) <= 6, (wrong[:3], failed)
    assert statuses[before:] and set(statuses[before:]) == {200}


def test_a_new_version_while_requests_come(tmp_path):
    write_entry(tmp_path, "double", factor=2.0)
    running = start(tmp_path, "--poll", "0.5")
    found, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            status, answer, _ = running.infer("double", [[1.0, 2.0, 3.0]])
            found.append((status, status == 200 and answer["outputs"][0]["data"][0]))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1)
    write_entry(tmp_path, "double", factor=3.0, version=2)
    deadline = time.monotonic() + 60
    while (200, 3.0) not in found and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    thread.join()
    running.stop()
    assert set(found) == {(200, 2.0), (200, 3.0)}


def test_a_model_that_cannot_be_loaded_says_why(tmp_path):
    write_entry(tmp_path, "double")
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/1/model.onnx").write_bytes(b"no model")
    running = start(tmp_path)
    status, answer, _ = running.infer("broken", [[1.0]])
    assert status == 503 and "onnxruntime cannot load the model" in answer["error"]
    assert running.infer("double", [[1.0, 2.0, 3.0]])[0] == 200
    running.stop()


def test_files_for_a_cluster(tmp_path):
    write_entry(tmp_path / "models", "double")
    command = [sys.executable, "-m", "dlbridge", "serve", str(tmp_path / "models"), "--on", "ray", "--emit"]
    subprocess.run([*command, str(tmp_path / "files")], check=True, cwd=ROOT)
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load((tmp_path / "files/serve.yaml").read_text())
    ServeDeploySchema.model_validate(config) if hasattr(ServeDeploySchema, "model_validate") else ServeDeploySchema(
        **config
    )
    manifest = yaml.safe_load((tmp_path / "files/kuberay.yaml").read_text())
    inner = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    assert inner["applications"][0]["args"]["path"] == "/models"
    assert json.dumps(inner["grpc_options"]) == json.dumps(config["grpc_options"])
    assert subprocess.run([*command, str(tmp_path / "files")], cwd=ROOT, check=False).returncode == 1
