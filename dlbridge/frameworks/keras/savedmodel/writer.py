"""What is written for a SavedModel is the Keras model that it is made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from dlbridge.frameworks.keras import writer
from dlbridge.model import Model
from dlbridge.source.program import Source


def write(model: Model, options: Any) -> Source:
    """The model as Keras source, for a SavedModel."""
    return dataclasses.replace(writer.write(model, options), framework="savedmodel")
