"""Flax NNX: written as classes of ``nnx.Module``, run and trained in JAX. It reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge.frameworks import Framework, ModularFramework, Trains
from dlbridge.frameworks.options import ChannelsLastOptions

if TYPE_CHECKING:
    from dlbridge.model import Model


@dataclass(frozen=True)
class WriteOptions(ChannelsLastOptions):
    """How a module is written."""


class NNX(ModularFramework):
    name = "nnx"
    title = "Flax NNX"
    extra = "nnx"
    packages = ("flax", "jax", "optax")
    weights_file = "weights.safetensors"
    trains = Trains(precisions=None)

    def read_model(self, source: Any, options: Any) -> Model:
        return Framework.read_model(self, source, options)  # which says that they are not read

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        return self.part("onnx_export").export(live, model, path, opset=opset)


FRAMEWORK = NNX()
