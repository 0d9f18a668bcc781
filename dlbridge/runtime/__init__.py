"""Runs models where they are deployed: onnxruntime and numpy, no framework and no ``onnx``.

session = dlbridge.runtime.load("models/digits")        # a repository entry, or an .onnx file
result = session(image=batch)                           # or session(batch); result["logits"], result.logits
generator = dlbridge.runtime.generator("models/llama")  # a model that was written with --task generate
"""

from __future__ import annotations

from dlbridge.repository.layout import find_model
from dlbridge.runtime.batch import run_file
from dlbridge.runtime.generation import Generator, Part
from dlbridge.runtime.generators import generator
from dlbridge.runtime.loading import load
from dlbridge.runtime.session import Result, Session
from dlbridge.runtime.signature import Port

__all__ = ["Generator", "Part", "Port", "Result", "Session", "find_model", "generator", "load", "run_file"]
