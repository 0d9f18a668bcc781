"""A server in a process of its own, and models that it can serve."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def affine(path: Path, factor: float = 2.0, sizes: tuple[Any, ...] = ("batch", 3)) -> Path:
    """Write ``y = x * factor`` as an ONNX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([node], "affine", [x], [y], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return path


def heavy(path: Path, layers: int = 24, width: int = 512) -> Path:
    """Write a model that takes some milliseconds: matrix products one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("batch", width)) for n in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(width, dtype=np.float32), "w")
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    graph = helper.make_graph(nodes, "heavy", ports[:1], ports[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def write_entry(repository: Path, name: str, config: str = "", factor: float = 2.0, version: int = 1) -> Path:
    """Write an entry of the repository around :func:`affine`."""
    affine(repository / name / str(version) / "model.onnx", factor)
    if config:
        (repository / name / "config.pbtxt").write_text(config)
    return repository / name


@dataclass
class Running:
    """A server that runs.

    Attributes:
        process: Its process.
        port: Its HTTP port.
        grpc_port: Its gRPC port.
        repository: What it serves.
    """

    process: subprocess.Popen[str]
    port: int
    grpc_port: int
    repository: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or bytes, headers) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, json.loads(found) if "json" in kind else found, dict(answer.headers.items())

    def infer(self, model: str, x: Any, **parameters: Any) -> tuple[int, Any, dict[str, str]]:
        """Ask a model of :func:`affine`."""
        array = np.asarray(x, np.float32)
        entry = {"name": "x", "shape": list(array.shape), "datatype": "FP32", "data": array.reshape(-1).tolist()}
        return self.ask("POST", f"/v2/models/{model}/infer", {"inputs": [entry], "parameters": parameters})

    def stop(self) -> int:
        """End it as an operator would, and return its exit code."""
        self.process.terminate()
        self.process.stdout.close()  # type: ignore[union-attr]
        return self.process.wait(40)


def start(repository: Path, *options: str, log: Path | None = None, **environment: str) -> Running:
    """Start a server on free ports; its log goes into a file where one is named."""
    command = [sys.executable, "-m", "dlbridge", "serve", str(repository), "--http-port", "0", "--grpc-port", "0"]
    with open(log, "w", encoding="utf-8") if log is not None else nullcontext() as errors:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environment}
        )
    line = process.stdout.readline()  # type: ignore[union-attr]
    ports = re.findall(r":(\d+)", line)
    assert len(ports) == 2, line
    return Running(process, int(ports[0]), int(ports[1]), repository)


def workers_of(running) -> list[int]:
    """The processes that run models: the children of the server."""
    path = f"/proc/{running.process.pid}/task/{running.process.pid}/children"
    with open(path, encoding="ascii") as file:
        children = [int(pid) for pid in file.read().split()]
    return [pid for pid in children if _state(pid) not in ("Z", "")]


def worker_of(running) -> int | None:
    """The process that runs the model, of a server with one model."""
    alive = workers_of(running)
    return alive[-1] if alive else None


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
