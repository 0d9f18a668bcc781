"""One version of a model that is served: its worker, which is started again when it dies, and its queue."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from dlbridge.errors import DlbridgeError, FileError
from dlbridge.repository import config as configs
from dlbridge.repository.config import Signature
from dlbridge.repository.layout import CERTIFICATE_FILE, is_inside, read_text
from dlbridge.serving import ports
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.process import WorkerProcess
from dlbridge.serving.scheduler import Scheduler
from dlbridge.serving.statistics import Statistics

LOG = logging.getLogger("dlbridge.serving")
#: Seconds before a worker that died is started again: the first time, and at most.
_RESTART_SECONDS, _MAX_RESTART_SECONDS = 0.05, 10.0
#: Seconds that requests have to be answered when what they wait for is to end.
DRAIN_SECONDS = 30.0
#: Threads for one op that a configuration may ask for.
_MAX_THREADS = 1024
#: A worker that dies so often without one answer in between is not started again.
_MAX_DEATHS = 5


#: Makes what runs a version, of its name and of what is called when it dies.
MakeWorker = Callable[[str, Callable[[], None]], Any]


class State(Enum):
    """Where a version stands, as the repository's index says it."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class ServedVersion:
    """A version of a model.

    Args:
        file: The model file.
        name: The model's name.
        version: The version's number.
        config: Its configuration, as read.
        root: The folder that nothing of it may leave.
        cache: A folder for optimised graphs; None for none.
        worker: What runs it.

    Attributes:
        config: Its configuration; complete when it is loaded.
        signature: What the model takes and gives, when it is loaded.
        state: Where it stands.
        reason: Why it is not ready; "" where it is.
        statistics: What it has done.
        labels: Output -> the labels of its classes.
        ports: Its inputs, when it is loaded.
        reshapes: Input or output -> how it is reshaped on its way.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        version: int,
        config: Any,
        root: Path,
        cache: Path | None = None,
        worker: MakeWorker = WorkerProcess,
    ) -> None:
        self.file = file
        self.root = root
        self.cache = None if cache is None else str(cache)
        self.name = name
        self.version = version
        self.config = config
        self.signature: Signature | None = None
        self.state = State.LOADING
        self.reason = ""
        self.statistics = Statistics()
        self.labels: dict[str, list[str]] = {}
        self.ports: list[ports.Port] = []
        self.reshapes: dict[str, ports.Reshape] = {}
        self._scheduler: Scheduler | None = None
        self._make_worker = worker
        self._worker: WorkerProcess | None = None
        self._deaths = 0
        self._answers_before = 0
        self._restarting: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        return f"{self.name}, version {self.version}"

    @property
    def worker_pid(self) -> int | None:
        return self._worker.pid if self._worker is not None else None

    @property
    def scheduler(self) -> Scheduler:
        """Its queue.

        Raises:
            ServingError: When it is not ready.
        """
        if self._scheduler is None or self.state is not State.READY:
            why = f" ({self.reason})" if self.reason else ""
            raise ServingError(f"it is {self.state.value}{why}", Status.UNAVAILABLE, retry_after=1.0, where=self.label)
        return self._scheduler

    async def load(self) -> None:
        """Start its worker and wait until it is ready.

        Raises:
            ServingError: When it cannot be loaded; its state and reason say so too.
        """
        try:
            _check_certificate(self.file, self.root)
            self.labels = labels(self.config, self.file.parent.parent, self.root)
            found = await self._start()
            self.signature = Signature.of(found["signature"])
            self.config = configs.complete(self.config, self.signature, self.label)
            self.ports, self.reshapes = ports.ports(self.config), ports.reshapes(self.config)
            self._scheduler = Scheduler(self.config, self.statistics)
            assert self._worker is not None
            self._scheduler.connect(self._worker)
        except (DlbridgeError, OSError) as error:  # OSError: no more processes or sockets for a worker
            self.state, self.reason = State.UNAVAILABLE, str(error)
            if self._worker is not None:
                self._worker.kill()
            LOG.error("cannot be loaded: %s", error)
            raise error if isinstance(error, ServingError) else ServingError(str(error)) from error
        self.state, self.reason = State.READY, ""
        LOG.info("loaded %s (process %s)", self.label, self.worker_pid)

    async def unload(self, seconds: float = DRAIN_SECONDS) -> None:
        """Answer what is queued, for so long at most, then end the worker."""
        self.state = State.UNLOADING
        if self._restarting is not None:
            self._restarting.cancel()
        if self._scheduler is not None:
            await self._scheduler.drain(seconds)
        if self._worker is not None:
            await self._worker.end(0)
        self.state, self.reason = State.UNAVAILABLE, "unloaded"

    async def _start(self) -> dict[str, Any]:
        self._worker = self._make_worker(self.label, self._died)
        return await self._worker.start(
            {
                "model": self.name,
                "version": self.version,
                "file": str(self.file),
                "providers": _providers(self.config),
                "threads": threads(self.config),
                "instances": instances(self.config),
                "cache": self.cache,
                "warmup": _warm_ups(self.config),
            }
        )

    def _died(self) -> None:
        """The worker ended by itself: requests wait until another has taken its place."""
        assert self._scheduler is not None
        self._scheduler.disconnect()
        answered = self.statistics.success.count
        self._deaths = self._deaths + 1 if answered == self._answers_before else 1
        self._answers_before = answered
        LOG.error("the worker of %s died; it is started again", self.label)
        self._restarting = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        assert self._scheduler is not None
        if self._worker is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._worker.reap)
        while self._deaths <= _MAX_DEATHS:
            await asyncio.sleep(min(_RESTART_SECONDS * 2 ** (self._deaths - 1), _MAX_RESTART_SECONDS))
            try:
                await self._start()
            except ServingError as error:
                self._deaths += 1
                LOG.error("the worker of %s cannot be started again: %s", self.label, error)
                continue
            assert self._worker is not None
            self._scheduler.connect(self._worker)
            LOG.info("started %s again (process %s)", self.label, self.worker_pid)
            return
        self.state, self.reason = State.UNAVAILABLE, "its worker dies again and again"
        self._scheduler.refuse_all(ServingError(self.reason, Status.UNAVAILABLE, where=self.label))


def _check_certificate(file: Path, root: Path) -> None:
    """Check that the certificate of a model, where there is one, says that it agrees with its original.

    That of an entry is written with its first version, and says nothing of later ones.

    Raises:
        FileError: When it says that it does not, or is no certificate.
    """
    folders = [file.parent, file.parent.parent] if file.parent.name == "1" else [file.parent]
    for folder in folders:
        path = folder / CERTIFICATE_FILE
        is_there = path.is_symlink() or path.exists()
        if not is_there or not is_inside(folder, root):
            continue
        text = read_text(path, root)
        try:
            passed = json.loads(text)["passed"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise FileError("it is no certificate", where=str(path)) from None
        if passed is not True:
            raise FileError("the certificate says that the model does not agree with its original", where=str(path))
        return


def _providers(config: Any) -> list[str]:
    """The execution providers that a configuration asks for, by its ``parameters`` or the kind of its instances."""
    if "providers" in config.parameters:
        return [p.strip() for p in config.parameters["providers"].string_value.split(",") if p.strip()]
    if any(group.gpus or group.kind == 1 for group in config.instance_group):
        devices = [gpu for group in config.instance_group for gpu in group.gpus]
        return [f"cuda:{devices[0]}" if devices else "cuda", "cpu"]
    return ["cpu"]


def instances(config: Any) -> int:
    """How many runs of a model there may be at once."""
    return sum(group.count or 1 for group in config.instance_group) or 1


def threads(config: Any) -> int:
    """Threads of onnxruntime for one op: one, unless ``parameters`` asks for more.

    Two busy threads on a machine that others use cost more than they give; instances make use of further cores.
    """
    text = (
        config.parameters["intra_op_thread_count"].string_value if "intra_op_thread_count" in config.parameters else ""
    )
    is_number = text.isascii() and text.isdigit() and len(text) < 5
    if text and not (is_number and 0 < int(text) <= _MAX_THREADS):
        what = f"intra_op_thread_count '{text}' is no number from 1 to {_MAX_THREADS}"
        raise FileError(what, where=config.name)
    return int(text or 1)


def _warm_ups(config: Any) -> list[dict[str, Any]]:
    samples = []
    for sample in config.model_warmup:
        batch = [max(sample.batch_size, 1)] if config.max_batch_size > 0 else []
        inputs = {}
        for name, described in sample.inputs.items():
            if not described.data_type or described.WhichOneof("input_data_type") == "input_data_file":
                raise FileError("a warm-up needs a data_type, and zero_data or random_data", where=config.name)
            shape = [*batch, *described.dims]
            if any(size < 1 for size in shape) or math.prod(shape) > 1 << 28:
                raise FileError(f"a warm-up has the shape {shape}", where=config.name)
            inputs[name] = [ports.datatype(described), shape, described.random_data]
        samples.append({"inputs": inputs, "count": max(sample.count, 1)})
    return samples


def labels(config: Any, folder: Path, root: Path) -> dict[str, list[str]]:
    """Output -> the labels of its classes, from its ``label_filename``."""
    found = {}
    for output in config.output:
        if not output.label_filename:
            continue
        if Path(output.label_filename).name != output.label_filename:
            raise FileError(f"label_filename '{output.label_filename}' is no file of the entry", where=str(folder))
        found[output.name] = read_text(folder / output.label_filename, root).splitlines()
    return found
