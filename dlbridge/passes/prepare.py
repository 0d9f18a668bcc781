"""``prepare``: what every writer does to a model before it prints."""

from __future__ import annotations

from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.fold import fold

__all__ = ["prepare"]


def prepare(model: Model) -> Model:
    """A copy with constants folded, no-ops removed, and every dtype and shape inferred."""
    model = model.clone()
    shapes.infer(model)
    fold(model)
    shapes.infer(model)
    return model
