"""Puts load on a server: clients that each keep a connection and send the next request when they are answered."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from dlbridge.errors import DlbridgeError, SignatureError
from dlbridge.runtime.session import Session
from dlbridge.runtime.signature import Port, Signature
from dlbridge.serving.tensors import Tensor, from_array

#: What free sizes behind the first may be: constraints may ask for two, or for a multiple of a power of two.
_SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 224)


@dataclass(frozen=True)
class Load:
    """What a server did under a load.

    Attributes:
        seconds: How long it lasted.
        latencies: Of each answer, in seconds, sorted.
        failures: Answers that were errors.
        failure: The first of them, or as much of it as came at once.
    """

    seconds: float
    latencies: Sequence[float]
    failures: int
    failure: str = ""

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """The latency that so many percent of the answers kept, in seconds."""
        if not self.latencies:
            return float("nan")
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))]


def sample(signature: Signature, rows: int = 1) -> dict[str, np.ndarray]:
    """Random inputs of a model; free sizes are ``rows`` for the first and 1 for others, or the next that it takes.

    Raises:
        SignatureError: When it takes none that are tried.
    """
    refused: SignatureError | None = None
    for size in _SIZES:
        arrays = _random(signature.inputs, rows, size)
        try:
            signature.check(arrays)
        except SignatureError as error:
            refused = refused or error
            continue
        return arrays
    assert refused is not None
    raise refused


def _random(ports: Sequence[Port], rows: int, size: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {}
    for port in ports:
        free = [rows, *[size] * len(port.shape)]
        shape = [size if isinstance(size, int) else own for size, own in zip(port.shape, free, strict=False)]
        if port.dtype == object:
            found[port.name] = np.full(shape, "text", dtype=object)
        elif port.dtype.kind == "f":
            found[port.name] = generator.standard_normal(shape).astype(port.dtype)
        else:
            found[port.name] = np.zeros(shape, port.dtype)
    return found


def request(model: str, arrays: dict[str, np.ndarray]) -> bytes:
    """An HTTP request for inference with binary tensors; a scalar has one element there."""
    tensors: dict[str, Tensor] = {name: from_array(np.atleast_1d(array)) for name, array in arrays.items()}
    inputs = [
        {"name": n, "datatype": t.datatype, "shape": t.shape, "parameters": {"binary_data_size": len(t.data)}}
        for n, t in tensors.items()
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = b"".join([header, *(t.data for t in tensors.values())])
    head = (
        f"POST /v2/models/{quote(model)}/infer HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection, which asks again when it is answered, but not more often than every ``interval`` seconds."""

    def __init__(self, message: bytes, end: float, latencies: list[float], interval: float = 0.0) -> None:
        self._message = message
        self._end = end
        self._interval = interval
        self._latencies = latencies
        self._buffer = b""
        self._missing = 0
        self._begun = 0.0
        self._transport: Any = None
        self._is_good = True
        self._is_last = False
        self.failures = 0
        self.failure = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._begun = time.perf_counter()
        if self._begun >= self._end or self._is_last:
            self._transport.close()
            return
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._buffer += data
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
            self._is_good = head[9:12] == b"200"
            if not self._is_good:
                self.failure = self.failure or rest.decode("utf-8", "replace")
            self._is_last = b"connection: close" in head.lower()
            self._missing = (int(length[1]) if length else 0) - len(rest)
            self._buffer = b""
        if self._missing <= 0:
            self._missing = 0
            if self._is_good:
                self._latencies.append(time.perf_counter() - self._begun)
            else:
                self.failures += 1
            early = self._begun + self._interval - time.perf_counter()
            if early > 0:
                asyncio.get_running_loop().call_later(early, self._ask)
            else:
                self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.failures += 1
        if not self.done.done():
            self.done.set_result(None)


async def apply(
    host: str, port: int, message: bytes, concurrency: int, seconds: float, rate: float | None = None
) -> Load:
    """Ask a server with so many clients for so long, as fast as it answers, or so many times a second."""
    interval = 0.0 if rate is None else concurrency / rate
    latencies: list[float] = []
    begin = time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(concurrency):
        _, client = await loop.create_connection(
            lambda: _Client(message, begin + seconds, latencies, interval), host, port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - begin
    failure = next((client.failure for client in clients if client.failure), "")
    return Load(took, sorted(latencies), sum(client.failures for client in clients), failure)


def in_process(session: Session, arrays: dict[str, np.ndarray], seconds: float) -> float:
    """Runs a second of the same session in a loop, without a server."""
    for _ in range(3):
        session.run(arrays)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        session.run(arrays)
        count += 1
    return count / (time.perf_counter() - begin)


def start(path: Path) -> tuple[subprocess.Popen[str], int]:
    """A server of one entry, or of an ``.onnx`` file, on a free port of this machine, and the port.

    Raises:
        DlbridgeError: When it does not start.
    """
    served = [str(path.parent), "--model", path.name] if path.is_dir() else [str(path)]
    command = [sys.executable, "-m", "dlbridge", "serve", *served, "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r":(\d+)", line)
    if found is None:
        process.kill()
        _, error = process.communicate()
        raise DlbridgeError(f"the server did not start: {error.strip()}", where=str(path))
    return process, int(found[1])
