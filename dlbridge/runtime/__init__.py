"""Runs models where they are deployed: onnxruntime and numpy, no framework and no ``onnx``.

session = dlbridge.runtime.load("models/digits")        # a repository entry, or an .onnx file
result = session(image=batch)                           # or session(batch); result["logits"], result.logits
"""

from __future__ import annotations

from dlbridge.repository.layout import find_model
from dlbridge.runtime.batch import run_file
from dlbridge.runtime.loading import load
from dlbridge.runtime.session import Result, Session
from dlbridge.runtime.signature import Port

__all__ = ["Port", "Result", "Session", "find_model", "load", "run_file"]
