"""The base class of what is a written Keras model in another form on disk (SavedModel, TensorFlow Lite)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dlbridge.frameworks import ModularFramework
from dlbridge.frameworks.keras import FRAMEWORK as KERAS
from dlbridge.frameworks.keras import WriteOptions

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source


class KerasForm(ModularFramework):
    extra = "keras"
    packages = ("tensorflow", "keras")
    form_of = KERAS.name
    WriteOptions = WriteOptions

    def part(self, name: str) -> Any:
        KERAS.part("runner")  # without the messages of TensorFlow
        return super().part(name)

    def write_model(self, model: Model, options: Any) -> Source:
        """The model as Keras source, which the form is made of."""
        return dataclasses.replace(KERAS.write_model(model, options), framework=self.name)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        """The weights, which do not change."""
        return dict(live.dlbridge_source.arrays())
