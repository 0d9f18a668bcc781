"""Runs ONNX models by onnxruntime, on the CPU: the route of the verification. Deployment is ``dlbridge.runtime``."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from dlbridge.errors import DlbridgeError, FileError, MissingKernelError, SignatureError
from dlbridge.frameworks.onnx import serialize
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.ops.evaluator import LARGE, Evaluator
from dlbridge.runtime import values

Providers = Sequence[Any]
_CPU: Providers = ("CPUExecutionProvider",)
#: Device -> the provider that runs models on it, with its options.
_DEVICES = {"cuda": ("CUDAExecutionProvider", {"use_tf32": "0"})}
#: A model that shows whether a provider starts.
_SMALLEST = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 13]> trial (float[1] x) => (float[1] y) {y = Abs(x)}'
)


@dataclass
class Live:
    """A session of onnxruntime and the model that it was made from."""

    session: onnxruntime.InferenceSession
    source: OnnxSource | None = None
    path: str | None = None

    @property
    def inputs(self) -> list[str]:
        return [i.name for i in self.session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        return [o.name for o in self.session.get_outputs()]


def load(source: OnnxSource | str | os.PathLike[str]) -> Live:
    """A session of a written model or of an ``.onnx`` file.

    Raises:
        FileError: When onnxruntime cannot load it.
    """
    return _load(source, _CPU)


@functools.cache
def devices() -> tuple[str, ...]:
    """The devices beside the CPU on which this onnxruntime runs models here."""
    return tuple(name for name, provider in _DEVICES.items() if _starts(provider))


def load_on(source: OnnxSource, device: str) -> Live:
    """A session of a written model on a device. Nodes that it has no kernels for are run on the CPU.

    Raises:
        FileError: When onnxruntime cannot load it there.
    """
    provider = _DEVICES[device]
    live = _load(source, [provider, *_CPU])
    if provider[0] not in live.session.get_providers():
        raise FileError(f"onnxruntime cannot start {provider[0]} for the model", where=source.name)
    return live


def _starts(provider: tuple[str, dict[str, str]]) -> bool:
    """Whether a provider is in this onnxruntime, and finds its device: without one, a session falls back to the CPU."""
    if provider[0] not in onnxruntime.get_available_providers():
        return False
    try:
        session = _session(_SMALLEST.SerializeToString(), "a trial", providers=[provider, *_CPU])
    except DlbridgeError:
        return False
    return provider[0] in session.get_providers()


def _load(source: OnnxSource | str | os.PathLike[str], providers: Providers) -> Live:
    if not isinstance(source, OnnxSource):
        return Live(_session(str(source), str(source), providers=providers), path=str(source))
    name, level = source.name, _level(source.ir)
    if serialize.weights_size(source.ir) < LARGE:  # a file is mapped, while bytes would be there three times
        buffer = io.BytesIO()
        serialize.write(source.ir, buffer)
        return Live(_session(buffer.getvalue(), name, level, providers), source)
    with tempfile.TemporaryDirectory(prefix="dlbridge-") as folder:
        path = Path(folder) / "model.onnx"
        serialize.save(source.ir, path, largest_file=0)
        return Live(_session(str(path), name, level, providers), source)


def in_memory(model: ir.Model, *, optimized: bool = True) -> Live:
    """A session of a graph in memory, without changes. Tensors in files beside one that it was read from are taken in.

    Args:
        model: The graph.
        optimized: Whether onnxruntime may rewrite it. Where not, its errors name the nodes of the graph.

    Raises:
        FileError: When onnxruntime cannot load it.
    """
    none = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    name, level = model.graph.name or "model", _level(model) if optimized else none
    if serialize.weights_size(model) < LARGE:
        whole = ir.external_data.load_to_model(model.clone())
        return Live(_session(ir.to_proto(whole).SerializeToString(), name, level))
    with tempfile.TemporaryDirectory(prefix="dlbridge-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.data")
        return Live(_session(str(path), name, level))


def _level(model: ir.Model) -> onnxruntime.GraphOptimizationLevel:
    """How far onnxruntime may rewrite a model.

    Its last level, which lays memory out anew, brings the process down on matrix products of float16 on some CPUs
    (onnxruntime 1.32), so a model that has float16 is run without it.
    """
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph.all_nodes() for v in node.outputs)]
    if any(v.dtype == ir.DataType.FLOAT16 for v in values):
        return onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def _session(
    model: bytes | str,
    where: str,
    level: onnxruntime.GraphOptimizationLevel | None = None,
    providers: Providers = _CPU,
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    options.log_severity_level = 4  # what it logs of an error is in the exception
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # its exceptions have no base class of their own
        kind = MissingKernelError if type(error).__name__ == "NotImplemented" else FileError
        raise kind(f"onnxruntime cannot load the model: {error}", where=where) from error


def run(live: Live, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by input name -> arrays by output name.

    Raises:
        SignatureError: When an input is missing.
    """
    missing = [n for n in live.inputs if n not in inputs]
    if missing:
        raise SignatureError(f"no array given for the input(s) {', '.join(missing)}")
    outputs = live.outputs
    found = values.runner(live.session)(outputs, {n: np.asarray(inputs[n]) for n in live.inputs})
    return dict(zip(outputs, found, strict=True))


def exact(live: Live | OnnxSource) -> Evaluator:
    """Runs the graph of a session, or of a written model, in float64, by the reference evaluator."""
    source = live if isinstance(live, OnnxSource) else live.source
    return Evaluator(source.ir if source is not None else ir.load(live.path or ""))  # type: ignore[union-attr]


def weights(live: Live) -> dict[str, np.ndarray]:
    """Initializer name -> array, of a session that was made of a written model."""
    return dict(live.source.arrays()) if live.source is not None else {}
