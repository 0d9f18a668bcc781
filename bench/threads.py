"""What threads, spinning and instances give and take on a machine that has other work.

Two processes run the same model at once, as two servers on one machine do. What they do together is compared with what
the cores could do: one process with one thread, alone, for each core.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bench.serving import MODELS
from dlbridge.repository.config import ModelConfig
from dlbridge.runtime import load as load_session
from dlbridge.serving import load, versions

ROUNDS = 3
#: Model -> the rows of a call: one, and what ``dlbridge run`` gives at a time.
BATCHES = {"cnn_digits": (1, 32), "resnet50": (1,)}


@dataclass(frozen=True)
class Setting:
    """How a process runs a model.

    Attributes:
        options: What ``dlbridge.runtime.load`` is told.
        instances: Runs at once.
    """

    options: dict[str, Any]
    instances: int = 1


#: What ``serve`` does with an entry whose configuration says nothing of it.
_SERVED = {"threads": versions.threads(ModelConfig())}
_CORES = os.cpu_count() or 1
SETTINGS = {
    "onnxruntime's own: a thread a core, spinning": Setting({"threads": _CORES, "spinning": True}),
    "a thread a core": Setting({"threads": _CORES}),
    "dlbridge run, dlbridge.runtime.load": Setting({}),
    "dlbridge serve": Setting(_SERVED, versions.instances(ModelConfig())),
    "dlbridge serve, an instance a core": Setting(_SERVED, _CORES),
}


def run() -> list[dict[str, object]]:
    """The best of three rounds, in which the settings take turns."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, seconds) in MODELS.items():
            repository = Path(folder) / name
            write(repository)
            for batch in BATCHES[name]:
                rows += _measured(str(repository / name), name, batch, seconds / 2)
    return rows


def _measured(path: str, name: str, batch: int, seconds: float) -> list[dict[str, object]]:
    one: list[float] = []
    alone: dict[str, list[float]] = {label: [] for label in SETTINGS}
    together: dict[str, list[float]] = {label: [] for label in SETTINGS}
    for _ in range(ROUNDS):
        one.append(sum(_rates(path, Setting({"threads": 1}), batch, 1, seconds)))
        for label, setting in SETTINGS.items():
            alone[label].append(sum(_rates(path, setting, batch, 1, seconds)))
            together[label].append(sum(_rates(path, setting, batch, 2, seconds)))
    possible = _CORES * max(one)
    return [
        {
            "model": name,
            "rows": batch,
            "setting": label,
            "alone, a second": max(alone[label]),
            "two processes, a second": max(together[label]),
            "of what the cores can do": max(together[label]) / possible,
        }
        for label in SETTINGS
    ]


def _rates(path: str, setting: Setting, batch: int, processes: int, seconds: float) -> list[float]:
    """Runs a second of each of so many processes at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(processes), context.SimpleQueue()
    given = (path, setting, batch, seconds, barrier, rates)
    started = [context.Process(target=_process, args=given) for _ in range(processes)]
    for process in started:
        process.start()
    found = [rates.get() for _ in started]
    for process in started:
        process.join()
    return found


def _process(
    path: str,
    setting: Setting,
    batch: int,
    seconds: float,
    barrier: Barrier,
    rates: multiprocessing.SimpleQueue[float],
) -> None:
    session = load_session(path, **setting.options, rows=batch)
    arrays = load.sample(session.signature, batch)

    def work(_: int) -> int:
        count = 0
        while time.perf_counter() < end:
            session.run(arrays)
            count += 1
        return count

    session.run(arrays)
    barrier.wait()
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(setting.instances) as pool:
        rates.put(sum(pool.map(work, range(setting.instances))) / seconds)
