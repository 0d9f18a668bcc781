"""ONNX's public ``Backend`` interface over the frameworks, so that ``onnx.backend.test`` can be run on dlbridge.

>>> from dlbridge.conformance.backend import backend
>>> tests = onnx.backend.test.BackendTest(backend("keras"), __name__)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from dlbridge import frameworks
from dlbridge.conformance import cases
from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key

__all__ = ["PreparedModel", "WriterBackend", "backend"]


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
            UnsupportedOpError: When the framework has no rule for an op, or the device is no CPU.
        """
        if not cls.supports_device(device):
            raise UnsupportedOpError(f"no device {device!r}", hint="the backend runs on the CPU")
        return PreparedModel(cls.framework, model)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Any = None,
        **options: Any,
    ) -> tuple[np.ndarray, ...]:
        """Outputs of one node; its dtypes and shapes are inferred.

        Args:
            node: A node.
            inputs: Its inputs in order, without those that it leaves out.
            device: "CPU".
            outputs_info: Not needed.
            options: ``opset_version``, else the newest that dlbridge reads.
        """
        names = dict.fromkeys(name for name in node.input if name)
        given = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(names, map(cases.array, inputs), strict=True)
        ]
        results = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        opset = onnx.helper.make_opsetid("", options.get("opset_version", traits.IR_OPSET))
        graph = onnx.helper.make_graph([node], op_key(node) or "node", given, results)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        outputs: tuple[np.ndarray, ...] = cls.run_model(model, inputs, device)
        return outputs

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


def backend(framework: str) -> type[WriterBackend]:
    """The backend that writes in a framework.

    Raises:
        DlbridgeError: When there is no such framework.
    """
    title = frameworks.get(framework).title or framework
    return type(f"{title}Backend", (WriterBackend,), {"framework": framework})
