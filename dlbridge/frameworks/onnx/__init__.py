"""ONNX: read from any opset, written in standard ops at a chosen one, run by onnxruntime."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.frameworks.onnx.runner import Live
    from dlbridge.frameworks.onnx.source import OnnxSource
    from dlbridge.model import Model


class Onnx:
    name = "onnx"
    extra = "onnx"
    suffixes = (".onnx",)
    read_options = ("lift", "name", "partial")
    write_options = ("opset", "metadata")

    def accepts(self, source: object) -> bool:
        onnx, onnx_ir = sys.modules.get("onnx"), sys.modules.get("onnx_ir")
        return (onnx is not None and isinstance(source, onnx.ModelProto)) or (
            onnx_ir is not None and isinstance(source, onnx_ir.Model)
        )

    def read(self, source: Any, **options: Any) -> Model:
        from dlbridge.frameworks.onnx.reader import read

        return read(source, **options)

    def write(self, model: Model, **options: Any) -> OnnxSource:
        from dlbridge.frameworks.onnx.writer import write

        return write(model, **options)

    def load(self, source: Any) -> Live:
        from dlbridge.frameworks.onnx.runner import load

        return load(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.onnx.runner import run

        return run(live, inputs)

    def exact(self, live: Live) -> Any:
        from dlbridge.frameworks.onnx.runner import exact

        return exact(live)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.onnx.runner import weights

        return weights(live)

    def save_weights(self, source: OnnxSource, folder: Path) -> None:
        """Write the model file, which holds its weights, into a folder."""
        source.save(folder / "model.onnx")

    def save(self, source: OnnxSource, target: Path, *, certificate: Any = None, force: bool = False) -> Path:
        """Write a ``.onnx`` file, or a repository entry when ``target`` has no such ending."""
        from dlbridge.frameworks.onnx.entry import save_entry

        target = Path(target)
        if target.suffix == ".onnx":
            return source.save(target, force=force)
        return save_entry(source, target.parent, target.name, certificate=certificate, force=force)

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        return self.write(model, opset=opset).save(path)

    def trainer(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> Any:
        raise TrainingError(
            "onnxruntime does not train", where=model.name, hint="train in 'pytorch' or 'keras', then export to ONNX"
        )


FRAMEWORK = Onnx()
