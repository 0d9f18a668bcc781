"""TensorFlow's SavedModel: a written Keras model as TensorFlow Serving has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbridge.frameworks import option
from dlbridge.frameworks.keras import FRAMEWORK as KERAS
from dlbridge.frameworks.keras.form import KerasForm
from dlbridge.frameworks.options import CommonReadOptions, inputs_option


@dataclass(frozen=True)
class ReadOptions(CommonReadOptions):
    """How a SavedModel is read."""

    inputs: Mapping[str, str] | None = inputs_option(
        "An input with other sizes than the model's, e.g. 'x[batch,224,224,3]'."
    )
    trust_code: bool = option(False, "Load a model with ops that run code or read files when it is loaded.")


class SavedModel(KerasForm):
    name = "savedmodel"
    title = "TensorFlow SavedModel"

    def accepts_folder(self, path: Path) -> bool:
        return (path / "saved_model.pb").is_file()

    def read_model(self, source: Any, options: Any) -> Any:
        return KERAS.part("files.tensorflow_files").read_saved_model(Path(source), options)

    def save(
        self, source: Any, target: Path, *, certificate: Mapping[str, Any] | None = None, force: bool = False
    ) -> Path:
        """Write the folder of a SavedModel; the certificate lies in it."""
        return self.part("runner").save(source, Path(target), certificate=certificate, force=force)


FRAMEWORK = SavedModel()
