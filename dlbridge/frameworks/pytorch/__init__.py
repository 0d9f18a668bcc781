"""PyTorch: read through ``torch.export``, written as ``nn.Module`` source, trained by a plain loop."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source


class PyTorch:
    name = "pytorch"
    extra = "torch"
    suffixes = (".pt2",)

    def accepts(self, source: object) -> bool:
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(source, (torch.nn.Module, torch.export.ExportedProgram))

    def read(self, source: Any, **options: Any) -> Model:
        from dlbridge.frameworks.pytorch.reader import read

        return read(source, **options)

    def write(self, model: Model, **options: Any) -> Source:
        from dlbridge.frameworks.pytorch.writer import write

        return write(model, **options)

    def load(self, source: Source) -> Any:
        from dlbridge.frameworks.pytorch.runner import load

        return load(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.pytorch.runner import run

        return run(live, inputs)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.pytorch.runner import weights

        return weights(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        from dlbridge.frameworks.pytorch.runner import save_weights

        save_weights(source, folder)

    def train(self, model: Model, data: Any, spec: Any, **options: Any) -> Any:
        from dlbridge.frameworks.pytorch.trainer import train

        return train(model, data, spec, **options)


FRAMEWORK = PyTorch()
