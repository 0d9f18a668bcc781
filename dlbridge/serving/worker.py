"""A worker: the process that runs one version of one model, on what the server sends it.

``python -m dlbridge.serving.worker FD`` talks in frames (``frames``) over the socket FD. The first frame says what to
load; the worker answers with the model's signature, or why it cannot be loaded. Each later frame holds runs, each of
which is answered by a frame of its own. When the server closes the socket the worker ends.

Only this process loads and runs model files: what a hostile or broken one brings down is a worker, which is started
again, and never the server.
"""

from __future__ import annotations

import gc
import io
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlbridge.errors import DlbridgeError, FileError, SignatureError
from dlbridge.runtime.images import image_reader
from dlbridge.runtime.loading import load
from dlbridge.runtime.session import Session
from dlbridge.runtime.signature import Port
from dlbridge.serving import frames, tensors

#: What a run that cannot be answered was: the request's fault, or the server's.
INVALID, FAILED = "invalid", "failed"
#: Pixels of the images of one run: a file of 300 bytes can claim millions.
_MAX_PIXELS = 1 << 24


class Worker:
    """Runs a model for a server.

    Args:
        connection: The socket to the server.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = io.BufferedReader(socket.SocketIO(connection, "r"), 1 << 18)
        self._sending = threading.Lock()
        self._runs: queue.SimpleQueue[tuple[list[Any], memoryview] | None] = queue.SimpleQueue()

    def work(self) -> None:
        """Load the model and answer, until the server closes the connection."""
        first = frames.receive(self._stream)
        if first is None:
            return
        order = first[0]
        try:
            session = load(order["file"], order["providers"], threads=order["threads"], cache=order["cache"])
            warm_up(session, order["warmup"])
            described = signature(session)
        except DlbridgeError as error:
            self._send({"error": str(error)})
            return
        self._send({"signature": described, "providers": session.providers})
        gc.collect()
        gc.freeze()  # as in the server
        self._answer_all(session, order["instances"])

    def _answer_all(self, session: Session, instances: int) -> None:
        if instances > 1:
            for _ in range(instances):
                threading.Thread(target=self._run_queued, args=(session,), daemon=True).start()
        while (frame := frames.receive(self._stream)) is not None:
            for run, payload in _cut(*frame):
                if instances > 1:
                    self._runs.put((run, payload))
                else:
                    self._answer(session, run, payload)

    def _run_queued(self, session: Session) -> None:
        while (found := self._runs.get()) is not None:
            self._answer(session, *found)

    def _answer(self, session: Session, run: list[Any], payload: memoryview) -> None:
        number, entries, wanted = run
        begin = time.perf_counter_ns()
        try:
            feed = {name: self._array(session, name, t) for name, t in frames.tensors(entries, payload)}
            taken = time.perf_counter_ns()
            outputs = session.run(feed, wanted)
            made = time.perf_counter_ns()
        except (SignatureError, FileError) as error:
            self._send([number, [INVALID, str(error)], [], []])
            return
        except Exception as error:  # a worker answers whatever goes wrong in a run, and goes on
            self._send([number, [FAILED, f"{type(error).__name__}: {error}"], [], []])
            return
        found = [(name, tensors.from_array(array)) for name, array in outputs.items()]
        times = [taken - begin, made - taken, time.perf_counter_ns() - made]
        self._send([number, None, frames.described(found), times], [t.data for _, t in found])

    def _array(self, session: Session, name: str, tensor: tensors.Tensor) -> np.ndarray:
        """A tensor as an array: strings that come for an input of numbers are encoded images.

        Raises:
            FileError: When one is no image.
            SignatureError: When one does not fit the input, or they are not of one size.
        """
        port = session.signature.port(name)
        if tensor.datatype != "BYTES" or port.dtype == object:
            return tensors.to_array(tensor)
        where = f"an image for input '{name}'"
        read = image_reader(port, where, _MAX_PIXELS)
        rows = [read(io.BytesIO(element)) for element in tensors.strings(tensor.data)]
        if len({row.shape for row in rows}) != 1:
            raise SignatureError("the images of a request, or of its batch, are not of one size", where=where)
        return np.stack(rows)

    def _send(self, header: Any, payload: Any = ()) -> None:
        with self._sending:
            frames.send(self._connection, header, payload)


def _cut(runs: list[Any], payload: memoryview) -> list[tuple[list[Any], memoryview]]:
    """The runs of a frame, each with its own bytes."""
    found, start = [], 0
    for run in runs:
        size = sum(entry[3] for entry in run[1])
        found.append((run, payload[start : start + size]))
        start += size
    return found


def signature(session: Session) -> dict[str, Any]:
    """What a model takes and gives, as the server is told."""
    return {"inputs": [_port(p) for p in session.inputs], "outputs": [_port(p) for p in session.outputs]}


def _port(port: Port) -> list[Any]:
    """[name, datatype, sizes], where a size that is free is its name, or -1.

    Raises:
        ServingError: When the protocol has no datatype for it.
    """
    datatype = tensors.datatype_of(port.dtype, f"'{port.name}'")
    return [port.name, datatype, [-1 if s is None else s for s in port.shape]]


def warm_up(session: Session, samples: list[Mapping[str, Any]]) -> None:
    """Run the model on samples of its configuration, before it is asked anything."""
    for sample in samples:
        feed = {name: _sample(*described) for name, described in sample["inputs"].items()}
        for _ in range(sample["count"]):
            session(**feed)


def _sample(datatype: str, shape: list[int], is_random: bool) -> np.ndarray:
    """An array of zeros, or of random numbers, as Triton's ``model_warmup`` describes it."""
    array = tensors.to_array(tensors.Tensor(datatype, tuple(shape), tensors.zeros(datatype, shape)))
    if is_random and array.dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(array.dtype)
    return array


def main() -> None:
    """Serve the socket whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of Pillow, over what clients send
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        Worker(connection).work()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the server is gone


if __name__ == "__main__":
    main()
