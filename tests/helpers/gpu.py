"""Checks on an NVIDIA GPU, in one script of a few minutes: ``make gpu``, or ``python -m tests.helpers.gpu``.

It needs ``onnxruntime-gpu`` in the place of ``onnxruntime``. Without it, or without a GPU, it says so and ends well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from dlbridge import runtime
from dlbridge.api import convert
from dlbridge.errors import ProviderError
from dlbridge.serving import load
from tests.helpers.paths import ROOT
from tests.helpers.serving import start, write_entry

#: What float32 on the GPU may differ by from float32 on the CPU, relative to the largest element: both round.
CLOSE = 2e-5
SECONDS = 480.0


def why_not() -> str | None:
    """Why there is nothing to check here; None where there is."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this onnxruntime has no CUDA: pip install onnxruntime-gpu in the place of onnxruntime"
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return "there is no NVIDIA driver"
    return None if found.returncode == 0 and found.stdout.strip() else "there is no NVIDIA GPU"


def digits(folder: Path) -> Path:
    """The digits CNN as an entry of a repository."""
    if not (folder / "cnn_digits").exists():
        convert(ROOT / "examples" / "cnn_digits.yaml", "onnx", into=folder, check=False)
    return folder / "cnn_digits"


def same_numbers(folder: Path) -> str:
    """The CUDA provider gives the CPU's numbers, with TF32 off as it is by itself."""
    entry = digits(folder)
    on_cpu, on_gpu = runtime.load(entry), runtime.load(entry, providers=("cuda", "cpu"))
    assert on_gpu.providers[0] == "CUDAExecutionProvider"
    worst = 0.0
    for rows in (1, 7, 64):
        arrays = load.sample(on_cpu.inputs, rows)
        expected, found = on_cpu.run(arrays), on_gpu.run(arrays)
        for name, array in expected.items():
            worst = max(worst, float(np.abs(found[name] - array).max() / np.abs(array).max()))
    assert worst < CLOSE, f"they differ by {worst:.1e}"
    return f"the largest difference is {worst:.1e} of the largest element"


def on_the_device(folder: Path) -> str:
    """Outputs stay on the GPU and are the inputs of the next call."""
    write_entry(folder, "double")
    session = runtime.load(folder / "double", providers=("cuda", "cpu"))
    x = np.ones((4, 3), np.float32)
    found = session.run_on_device({"x": x})["y"]
    assert found.device_name().lower() == "cuda", found.device_name()
    again = session.run_on_device({"x": found})["y"]
    assert again.device_name().lower() == "cuda" and (again.numpy() == 4).all()
    return "y is on cuda, and so is y of y"


def served(folder: Path) -> str:
    """An entry with ``KIND_GPU`` answers with the CPU's numbers."""
    write_entry(folder / "served", "double", "max_batch_size: 8 instance_group { kind: KIND_GPU } dynamic_batching { }")
    running = start(folder / "served")
    try:
        status, found, _ = running.infer("double", [[1, 2, 3]])
        assert status == 200 and found["outputs"][0]["data"] == [2.0, 4.0, 6.0], found
    finally:
        running.stop()
    return "200, and twice what was sent"


def speed(folder: Path) -> str:
    """How much quicker than one thread of the CPU a batch is."""
    entry = digits(folder)
    arrays = load.sample(runtime.load(entry).inputs, 256)
    rates = {p: load.in_process(runtime.load(entry, providers=p, threads=1), arrays, 3.0) for p in ("cpu", "cuda")}
    return f"256 rows: {rates['cpu']:.0f} a second on one thread of the CPU, {rates['cuda']:.0f} on the GPU"


CHECKS: tuple[Callable[[Path], str], ...] = (same_numbers, on_the_device, served, speed)


def main() -> None:
    """Run the checks, and end with 1 where one fails."""
    why = why_not()
    if why is not None:
        print(f"skipped: {why}")
        return
    begun, failures = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        for check in CHECKS:
            title = (check.__doc__ or "").splitlines()[0]
            if time.monotonic() - begun > SECONDS:
                print(f"not tried (the time is over): {title}")
                continue
            try:
                print(f"passed: {title} {check(Path(name))}", flush=True)
            except (AssertionError, ProviderError) as error:
                failures += 1
                print(f"FAILED: {title} {error}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
