"""Keras 3: read from its graph of layers and operations, written as a functional model, trained by ``fit``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source


class Keras:
    name = "keras"
    extra = "keras"
    suffixes = (".keras", ".h5")

    def accepts(self, source: object) -> bool:
        keras = sys.modules.get("keras")
        return keras is not None and isinstance(source, keras.Model)

    def read(self, source: Any, **options: Any) -> Model:
        from dlbridge.frameworks.keras.reader import read

        return read(source, **options)

    def write(self, model: Model, **options: Any) -> Source:
        from dlbridge.frameworks.keras.writer import write

        return write(model, **options)

    def load(self, source: Source) -> Any:
        from dlbridge.frameworks.keras.runner import load

        return load(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.keras.runner import run

        return run(live, inputs)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        from dlbridge.frameworks.keras.runner import weights

        return weights(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        from dlbridge.frameworks.keras.runner import save_weights

        save_weights(source, folder)

    def train(self, model: Model, data: Any, spec: Any, **options: Any) -> Any:
        from dlbridge.frameworks.keras.trainer import train

        return train(model, data, spec, **options)


FRAMEWORK = Keras()
