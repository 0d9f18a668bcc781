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

from bench.serving import MODELS
from dlbridge.runtime import load as load_session
from dlbridge.serving import load

ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """How a process runs a model.

    Attributes:
        threads: Threads for one op; as many as there are cores when None.
        spinning: Whether a thread that waits keeps its core busy.
        instances: Runs at once.
    """

    threads: int | None
    spinning: bool
    instances: int = 1


SETTINGS = {
    "onnxruntime's own: a thread a core, spinning": Setting(None, True),
    "a thread a core (dlbridge run)": Setting(None, False),
    "one thread (dlbridge serve)": Setting(1, False),
    "one thread, an instance a core": Setting(1, False, os.cpu_count() or 1),
}


def run() -> list[dict[str, object]]:
    """The best of three rounds, in which the settings take turns."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, seconds) in MODELS.items():
            repository = Path(folder) / name
            write(repository)
            rows += _measured(str(repository / name), name, seconds / 2)
    return rows


def _measured(path: str, name: str, seconds: float) -> list[dict[str, object]]:
    cores = os.cpu_count() or 1
    one: list[float] = []
    alone: dict[str, list[float]] = {label: [] for label in SETTINGS}
    together: dict[str, list[float]] = {label: [] for label in SETTINGS}
    for _ in range(ROUNDS):
        one.append(sum(_rates(path, Setting(1, False), 1, seconds)))
        for label, setting in SETTINGS.items():
            alone[label].append(sum(_rates(path, setting, 1, seconds)))
            together[label].append(sum(_rates(path, setting, 2, seconds)))
    possible = cores * max(one)
    return [
        {
            "model": name,
            "setting": label,
            "alone, a second": max(alone[label]),
            "two processes, a second": max(together[label]),
            "of what the cores can do": max(together[label]) / possible,
        }
        for label in SETTINGS
    ]


def _rates(path: str, setting: Setting, processes: int, seconds: float) -> list[float]:
    """Runs a second of each of so many processes at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(processes), context.SimpleQueue()
    started = [
        context.Process(target=_process, args=(path, setting, seconds, barrier, rates)) for _ in range(processes)
    ]
    for process in started:
        process.start()
    found = [rates.get() for _ in started]
    for process in started:
        process.join()
    return found


def _process(
    path: str, setting: Setting, seconds: float, barrier: Barrier, rates: multiprocessing.SimpleQueue[float]
) -> None:
    session = load_session(path, threads=setting.threads, spinning=setting.spinning)
    arrays = load.sample(session.inputs)

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
