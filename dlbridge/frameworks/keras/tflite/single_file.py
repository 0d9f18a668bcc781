"""Writes a ``.tflite`` file."""

from __future__ import annotations

from pathlib import Path

from dlbridge.frameworks.keras.tflite import runner
from dlbridge.source.program import Source


def save(source: Source, path: Path, where: str) -> None:
    """Write the file."""
    path.write_bytes(runner.convert(source))
