"""A worker process, as the server sees it: started, asked, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlbridge.serving import frames
from dlbridge.serving.frames import Named
from dlbridge.serving.problems import ServingError, Status

#: Seconds that a model may take to load and to warm up.
LOADING_SECONDS = 600.0
#: Bytes of answers that are read at once.
_SOCKET_BUFFER = 1 << 20
_LOST = "the worker of the model ended while it was at it"

#: Called with the outputs of a run and its times in ns (making arrays, running, making bytes), or with an error.
Answer = Callable[[list[Named], Sequence[int], ServingError | None], None]


class WorkerProcess(asyncio.Protocol):
    """One process that runs one version of a model (``worker``).

    Args:
        name: What it serves, for messages.
        on_end: Called when the process, which has loaded its model, is gone without having been told to end.
    """

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        self.name = name
        self._on_end = on_end
        self._decoder = frames.Decoder()
        self._answers: dict[int, Answer] = {}
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._loaded: asyncio.Future[dict[str, Any]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_started = self._is_ending = False

    async def start(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Start the process and have it load its model.

        Args:
            order: What to load: ``file``, ``providers``, ``threads``, ``instances``, ``cache``, ``warmup``.

        Returns:
            The model's ``signature`` and the ``providers`` in use.

        Raises:
            ServingError: When the model cannot be loaded, or the process dies over it.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        command = [sys.executable, "-m", "dlbridge.serving.worker", str(theirs.fileno())]
        with theirs:
            # a process group of its own: Ctrl-C in a terminal reaches the server alone, which drains first
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        ours.setblocking(False)
        self._loaded = loop.create_future()
        await loop.create_connection(lambda: self, sock=ours)
        self._write(frames.encode(dict(order)))
        try:
            found = await asyncio.wait_for(asyncio.shield(self._loaded), LOADING_SECONDS)
        except TimeoutError:
            self.kill()
            raise ServingError(
                f"the model did not load within {LOADING_SECONDS:.0f} s", Status.UNAVAILABLE, where=self.name
            ) from None
        if "error" in found:
            await self.end()
            raise ServingError(found["error"], Status.INVALID, where=self.name)
        if not self.is_alive:
            await self.end()
            raise ServingError(_LOST, Status.UNAVAILABLE, where=self.name)
        self._is_started = True
        return found

    @property
    def is_alive(self) -> bool:
        """Whether runs can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def run(self, runs: Sequence[tuple[Sequence[Named], Sequence[str] | None, Answer]]) -> None:
        """Send runs: (inputs, names of the outputs that are wanted or None for all, what takes the answer) each."""
        headers, payload = [], []
        for inputs, wanted, answer in runs:
            self._number += 1
            self._answers[self._number] = answer
            headers.append([self._number, frames.described(inputs), wanted])
            payload += [tensor.data for _, tensor in inputs]
        self._idle.clear()
        self._write(frames.encode(headers, payload))

    def _write(self, pieces: Sequence[frames.Buffer]) -> None:
        if self.is_alive:
            self._transport.writelines(pieces)  # type: ignore[union-attr]

    # --- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=1 << 30)

    def data_received(self, data: bytes) -> None:
        for header, payload in self._decoder.feed(data):
            if isinstance(header, dict):
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_result(header)
                continue
            number, error, entries, times = header
            answer = self._answers.pop(number)
            problem = None if error is None else _problem(error, self.name)
            answer(list(frames.tensors(entries, payload)), times, problem)
        if not self._answers:
            self._idle.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result({"error": f"{_LOST}, loading the model file"})
        if self._is_started and not self._is_ending:  # otherwise whoever starts or ends it sees to it
            self._on_end()  # first: nothing more is to be sent here
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer([], (), ServingError(_LOST, Status.UNAVAILABLE, retry_after=1.0, where=self.name))
        self._idle.set()

    # --- its end --------------------------------------------------------------------------------------------------

    async def end(self, seconds: float = 30.0) -> None:
        """Wait for the answers that are due (at most so long), then end the process."""
        self._is_ending = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        if self._transport is not None:
            self._transport.close()
        if self._process is not None:
            process = self._process
            try:
                await asyncio.get_running_loop().run_in_executor(None, lambda: process.wait(5))
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._is_ending = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        if self._transport is not None:
            self._transport.close()

    def reap(self) -> int | None:
        """The exit code of a process that has ended."""
        return None if self._process is None else self._process.wait()


def _problem(error: Sequence[str], name: str) -> ServingError:
    kind, text = error
    return ServingError(text, Status.INVALID if kind == "invalid" else Status.INTERNAL, where=name)
