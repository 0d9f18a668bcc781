"""ONNX's public ``Backend`` interface over the frameworks, so that ``onnx.backend.test`` can be run on dlbridge.

>>> from dlbridge.conformance.backend import PyTorchBackend
>>> tests = onnx.backend.test.BackendTest(PyTorchBackend, __name__)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from dlbridge import frameworks
from dlbridge.conformance import cases


class PreparedModel(BackendRep):
    """A model, written in a framework and loaded."""

    def __init__(self, framework: str, proto: onnx.ModelProto) -> None:
        self._framework = frameworks.get(framework)
        model = cases.read(proto)
        self._live = self._framework.load(self._framework.write(model))
        self._inputs = [value.name or "" for value in model.inputs]

    def run(self, inputs: Any, **options: Any) -> tuple[np.ndarray, ...]:
        """Outputs for inputs in the order of the graph's."""
        given = {name: cases.array(data) for name, data in zip(self._inputs, inputs, strict=True)}
        return tuple(self._framework.run(self._live, given).values())


class WriterBackend(Backend):
    """A backend that writes a model in a framework and runs what was written, on the CPU."""

    framework: str

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> PreparedModel:
        """Write and load a model.

        Raises:
            UnsupportedOpError: When the framework has no rule for an op.
        """
        return PreparedModel(cls.framework, model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class PyTorchBackend(WriterBackend):
    framework = "pytorch"


class KerasBackend(WriterBackend):
    framework = "keras"
