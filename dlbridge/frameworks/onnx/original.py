"""Runs the ONNX model that a model was read from: by onnxruntime, and by the reference evaluator in float64."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.frameworks.onnx import runner
from dlbridge.ops.evaluator import Evaluator


class Original:
    """An ONNX file or a model in memory: arrays by input name -> arrays by output name.

    Args:
        source: The file, or the model; None where the user asked for changes of it.
        load: Gives its graph anew, as it is in the file, or with these changes.
    """

    def __init__(
        self, source: str | os.PathLike[str] | onnx.ModelProto | ir.Model | None, load: Callable[[], ir.Model]
    ) -> None:
        self._source, self._load = source, load

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run it in its own types."""
        return self.opened()(arrays)

    def opened(self) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        """Runs it in its own types, with one session that is made at the first call."""
        session = functools.cache(self._session)
        return lambda arrays: runner.run(session(), arrays)

    def _session(self) -> runner.Live:
        if isinstance(self._source, (str, os.PathLike)):
            return runner.load(self._source)
        return runner.in_memory(self._load())

    def exact(self) -> Evaluator:
        """Runs it in float64."""
        return Evaluator(self._load())
