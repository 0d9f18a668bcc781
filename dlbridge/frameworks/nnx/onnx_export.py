"""ONNX by dlbridge's own writer, of the weights that the live model has now."""

from __future__ import annotations

from pathlib import Path

from flax import nnx

from dlbridge import frameworks
from dlbridge.frameworks.nnx.runner import source_of, weights
from dlbridge.model import Model


def export(live: nnx.Module, model: Model, path: Path, *, opset: int) -> Path:
    """Write an ONNX file.

    Args:
        live: A module that was loaded.
        model: The model that it was written of.
        path: The file to write.
        opset: The opset of the file.
    """
    current = model.clone()
    current.set_weights(source_of(live).initializers(weights(live)))
    return frameworks.get(frameworks.STANDARD).write(current, opset=opset).save(path)  # type: ignore[attr-defined, return-value]
