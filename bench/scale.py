"""What Ray costs: a request, a second of load, and rows of a batch run, beside the same without Ray.

Without the extra ``scale`` (``make bench-scale`` installs it) the rows on Ray are left out.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

import dlbridge
from dlbridge import batch
from dlbridge.runtime import load as load_session
from dlbridge.serving import load

ROOT = Path(__file__).parent.parent
HAS_RAY = importlib.util.find_spec("ray") is not None
PORT, SECONDS, ROWS, FILES = 18080, 5.0, 50_000, 10


def run() -> list[dict[str, object]]:
    """The digits network, served and run on half a million rows."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        dlbridge.convert(ROOT / "examples" / "cnn_digits.yaml", "onnx", into=models, check=False)
        return [*_served(models), *_rows(models / "cnn_digits", Path(folder))]


def _served(models: Path) -> Iterator[dict[str, object]]:
    entry = models / "cnn_digits"
    arrays = load.sample(load_session(entry).signature)
    message = load.request(entry.name, arrays)
    first: dict[int, float] = {}
    config = (entry / "config.pbtxt").read_text()
    for engine, replicas in (("-", 1), ("ray", 1), ("ray", 2)):
        if engine == "ray" and not HAS_RAY:
            continue
        (entry / "config.pbtxt").write_text(f"{config}\ninstance_group [{{ kind: KIND_CPU count: {replicas} }}]\n")
        with _server(models, engine):
            for clients in (1, 16):
                asyncio.run(load.apply("127.0.0.1", PORT, message, clients, 2.0 if replicas == 1 else 8.0))
                found = asyncio.run(load.apply("127.0.0.1", PORT, message, clients, SECONDS))
                first.setdefault(clients, found.throughput)
                yield {
                    "what": f"requests of {clients}, at {replicas}",
                    "on": engine,
                    "a second": found.throughput,
                    "ratio": found.throughput / first[clients],
                    "p50, ms": 1000 * found.percentile(50),
                }


@contextmanager
def _server(models: Path, engine: str) -> Iterator[None]:
    command = [sys.executable, "-m", "dlbridge", "serve", str(models), "--http-port", str(PORT), "--grpc-port", "18081"]
    options = [] if engine == "-" else ["--on", engine]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


def _rows(entry: Path, folder: Path) -> Iterator[dict[str, object]]:
    (folder / "in").mkdir()
    generator = np.random.default_rng(0)
    for number in range(FILES):
        pixels = generator.random((ROWS, 64), np.float32)
        image = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(pixels.reshape(-1)), 64)
        table = pyarrow.table({"id": np.arange(ROWS) + number * ROWS, "image": image})
        pyarrow.parquet.write_table(table, folder / f"in/{number}.parquet", row_group_size=10_000)
    first = 0.0
    for engine, workers in ((None, 1), ("ray", 1), ("ray", 2)):
        if engine and not HAS_RAY:
            continue
        os.environ["OMP_NUM_THREADS"] = "1"
        began = time.perf_counter()
        out = folder / f"out-{engine}-{workers}"
        batch.run(entry, folder / "in", out, batch_size=256, threads=1, on=engine, workers=workers)
        a_second = FILES * ROWS / (time.perf_counter() - began)
        first = first or a_second
        what = f"rows, {workers} worker{'s' * (workers > 1)}"
        yield {"what": what, "on": engine or "-", "a second": a_second, "ratio": a_second / first, "p50, ms": "-"}
