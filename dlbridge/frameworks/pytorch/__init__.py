"""PyTorch: read through ``torch.export``, written as ``nn.Module`` source, trained by a plain loop."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge.errors import require

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source


class PyTorch:
    name = "pytorch"
    extra = "torch"
    exporter = "torch.onnx"
    #: The pickles among them are refused, with what to do instead.
    suffixes = (".pt2", ".pt", ".pth")
    read_options = ("inputs", "dynamic", "name", "lift", "partial")
    write_options = ("memory_format", "partial")

    def _part(self, name: str) -> Any:
        return require(f"dlbridge.frameworks.pytorch.{name}", self.extra)

    def accepts(self, source: object) -> bool:
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(source, (torch.nn.Module, torch.export.ExportedProgram))

    def read(self, source: Any, **options: Any) -> Model:
        return self._part("reader").read(source, **options)

    def write(self, model: Model, **options: Any) -> Source:
        return self._part("writer").write(model, **options)

    def load(self, source: Source) -> Any:
        return self._part("runner").load(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._part("runner").run(live, inputs)

    def exact(self, live: Any) -> Any:
        return self._part("runner").exact(live)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        return self._part("runner").weights(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        self._part("runner").save_weights(source, folder)

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        return self._part("onnx_export").export(live, model, path, opset=opset)

    def trainer(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> Any:
        return self._part("trainer").Trainer(model, spec, from_logits=from_logits, checkpoint=checkpoint)


FRAMEWORK = PyTorch()
