"""What starting costs, beside what the libraries under it cost."""

from __future__ import annotations

import subprocess
import sys

from bench.timing import seconds


def run() -> list[dict[str, object]]:
    """Seconds of a fresh process, and how many times a bare ``python -c pass`` that is."""
    cases = {
        "python -c pass": ["-c", "pass"],
        "import numpy": ["-c", "import numpy"],
        "import dlbridge": ["-c", "import dlbridge"],
        "dlbridge --help": ["-m", "dlbridge", "--help"],
        "import dlbridge.runtime": ["-c", "import dlbridge.runtime"],
        "import onnxruntime": ["-c", "import onnxruntime"],
    }
    times = seconds(*(_process(arguments) for arguments in cases.values()))
    return [
        {"case": case, "seconds": time, "ratio to python": time / times[0]}
        for case, time in zip(cases, times, strict=True)
    ]


def _process(arguments: list[str]):
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
