"""The base class of what is a written Keras model in another form on disk (SavedModel, TensorFlow Lite)."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks import ModularFramework
from dlbridge.frameworks.keras import FRAMEWORK as KERAS
from dlbridge.frameworks.keras import WriteOptions


class KerasForm(ModularFramework):
    extra = "keras"
    packages = ("tensorflow", "keras")
    form_of = KERAS.name
    WriteOptions = WriteOptions

    def part(self, name: str) -> Any:
        KERAS.part("runner")  # without the messages of TensorFlow
        return super().part(name)
