"""What is written for TensorFlow Lite is the Keras model that the converter is given."""

from __future__ import annotations

import dataclasses
from typing import Any

from dlbridge.frameworks.keras import writer
from dlbridge.model import Model
from dlbridge.source.program import Source


def write(model: Model, options: Any) -> Source:
    """The model as Keras source, for a ``.tflite`` file."""
    return dataclasses.replace(writer.write(model, options), framework="tflite")
