"""Requests a second of a served model with 16 clients, beside its session in a loop without a server.

NVIDIA's Triton takes its turn where an environment has it: ``make bench-serving`` makes one from ``nvidia-pytriton``,
whose Triton has no ONNX backend, so that a backend in Python runs the same file in onnxruntime.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

import dlbridge
from bench.cases import Failure
from dlbridge.repository import messages
from dlbridge.runtime import load as load_session
from dlbridge.runtime.session import Session
from dlbridge.serving import load

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers"
CLIENTS, ROUNDS = 16, 3
INFER = "/inference.GRPCInferenceService/ModelInfer"

#: What Triton runs a model with: a request of several rows, or several requests, in one run of onnxruntime.
_BACKEND = """
import numpy as np, onnxruntime, os
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    def execute(self, requests):
        rows = [pb.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
        joined = rows[0] if len(rows) == 1 else np.concatenate(rows)
        found = self.session.run([self.output], {self.input: joined})[0]
        parts = np.split(found, np.cumsum([len(r) for r in rows])[:-1])
        return [pb.InferenceResponse([pb.Tensor(self.output, part)]) for part in parts]
"""


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        process: Its process, whose children belong to it.
        http, grpc: Its ports.
    """

    process: subprocess.Popen[str]
    http: int
    grpc: int


def run() -> list[dict[str, object]]:
    """The best of three rounds, in which the servers take turns."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, seconds) in MODELS.items():
            repository = Path(folder) / name
            write(repository)
            config = repository / name / "config.pbtxt"
            config.write_text(config.read_text() + "\ndynamic_batching {}\n")
            rows += _measured(repository, name, seconds)
    return rows


def _measured(repository: Path, name: str, seconds: float) -> Iterator[dict[str, object]]:
    session = load_session(repository / name, threads=1)
    arrays = load.sample(session.signature)
    best: dict[tuple[str, str], load.Load | Failure] = {}
    memory: dict[str, float] = {}
    alone = 0.0
    for _ in range(ROUNDS):
        alone = max(alone, load.in_process(session, arrays, seconds))
        for server, start in SERVERS.items():
            if server == "triton" and not PEERS.exists():
                continue
            with start(repository, name) as running:
                for protocol, ask in (("HTTP", _http), ("gRPC", _grpc)):
                    ask(running, name, session, arrays, 1.0)
                    found = ask(running, name, session, arrays, seconds)
                    before = best.get((server, protocol))
                    if before is None or isinstance(found, Failure) or found.throughput > before.throughput:
                        best[server, protocol] = found
                memory[server] = _memory(running.process.pid) / 2**20
    yield {
        "model": name, "server": "none", "protocol": "-", "a second": alone, "ratio": 1.0,
        "p50, ms": 1000 / alone, "p99, ms": "-", "MiB": "-",
    }  # fmt: skip
    for (server, protocol), found in best.items():
        row: dict[str, object] = {"model": name, "server": server, "protocol": protocol}
        if isinstance(found, Failure):
            yield {**row, "a second": found, "ratio": "-", "p50, ms": "-", "p99, ms": "-", "MiB": "-"}
            continue
        yield {
            **row, "a second": found.throughput, "ratio": found.throughput / alone,
            "p50, ms": 1000 * found.percentile(50), "p99, ms": 1000 * found.percentile(99), "MiB": memory[server],
        }  # fmt: skip


# --- models -----------------------------------------------------------------------------------------------------------


def _digits(repository: Path) -> None:
    dlbridge.convert(ROOT / "examples" / "cnn_digits.yaml", "onnx", into=repository, check=False)


def _resnet(repository: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "sweeps"))
    import torchvision_cpu  # noqa: F401, I001  (before torchvision)

    import torchvision

    module = torchvision.models.resnet50().eval()
    read = {"inputs": {"x": "float32[batch,3,224,224]"}, "name": "resnet50"}
    dlbridge.convert(module, "onnx", into=repository, check=False, read=read)


#: Name -> (what writes it, seconds of a measurement: of a model whose batches take a second, it takes longer).
MODELS: Mapping[str, tuple[Callable[[Path], None], float]] = {"cnn_digits": (_digits, 4.0), "resnet50": (_resnet, 12.0)}

# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _dlbridge(repository: Path, name: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "dlbridge", "serve", str(repository), "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ports = re.findall(r":(\d+)", process.stdout.readline())
    with _ended(process):
        yield Server(process, int(ports[0]), int(ports[1]))


@contextlib.contextmanager
def _triton(repository: Path, name: str) -> Iterator[Server]:
    served = repository.with_name(f"{name}-triton")
    shutil.rmtree(served, ignore_errors=True)
    shutil.copytree(repository, served)
    config = served / name / "config.pbtxt"
    config.write_text(config.read_text().replace('platform: "onnxruntime_onnx"', 'backend: "python"'))
    (served / name / "1" / "model.py").write_text(_BACKEND)
    home = next(PEERS.glob("lib/python3*/site-packages/pytriton/tritonserver"))
    http, rpc, metrics = (_free_port() for _ in range(3))
    command = [
        home / "bin" / "tritonserver", f"--model-repository={served}", f"--backend-directory={home / 'backends'}",
        f"--http-port={http}", f"--grpc-port={rpc}", f"--metrics-port={metrics}",
        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1",
    ]  # fmt: skip
    stub = home / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():  # one for each version of Python; the backend looks for it beside itself
        shutil.copy(home / "python_backend_stubs" / "3.11" / stub.name, stub)
    path = f"{PEERS / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(home.parent.parent), "VIRTUAL_ENV": str(PEERS)}
    process = subprocess.Popen([str(c) for c in command], stderr=subprocess.DEVNULL, text=True, env=environment)
    with _ended(process):
        _wait(f"http://127.0.0.1:{http}/v2/models/{name}/ready", process)
        yield Server(process, http, rpc)


SERVERS = {"dlbridge": _dlbridge, "triton": _triton}


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait(url: str, process: subprocess.Popen[str], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.2)


def _memory(pid: int) -> int:
    """Proportional memory of a process and its children, in bytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE)
    return (int(found[1]) * 1024 if found else 0) + sum(_memory(int(child)) for child in children)


# --- clients ----------------------------------------------------------------------------------------------------------


def _http(server: Server, name: str, session: Session, arrays: dict[str, np.ndarray], seconds: float):
    message = load.request(name, arrays)
    found = asyncio.run(load.apply("127.0.0.1", server.http, message, CLIENTS, seconds))
    return Failure(f"{found.failures} requests failed") if found.failures else found


def _grpc(server: Server, name: str, session: Session, arrays: dict[str, np.ndarray], seconds: float):
    request = messages.ModelInferRequest(model_name=name)
    for port in session.inputs:
        array = arrays[port.name]
        request.inputs.add(name=port.name, datatype="FP32", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return asyncio.run(_asked(f"127.0.0.1:{server.grpc}", request.SerializeToString(), seconds))


async def _asked(address: str, message: bytes, seconds: float) -> load.Load | Failure:
    """Clients that ask again as soon as they are answered, each on a connection of its own."""
    latencies: list[float] = []

    async def client(number: int) -> None:
        options = [("grpc.channel_id", number), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = channel.unary_unary(INFER)
            while time.perf_counter() < end:
                begun = time.perf_counter()
                await call(message)
                latencies.append(time.perf_counter() - begun)

    begin = time.perf_counter()
    end = begin + seconds
    try:
        await asyncio.gather(*(client(n) for n in range(CLIENTS)))
    except grpc.aio.AioRpcError as error:
        return Failure(f"{error.code().name}: {error.details()}"[:60])
    return load.Load(time.perf_counter() - begin, sorted(latencies), 0)
