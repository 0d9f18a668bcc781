"""TensorFlow Lite (LiteRT): a written Keras model as one ``.tflite`` file, by TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbridge.frameworks.keras import FRAMEWORK as KERAS
from dlbridge.frameworks.keras.form import KerasForm
from dlbridge.frameworks.options import CommonReadOptions, inputs_option


@dataclass(frozen=True)
class ReadOptions(CommonReadOptions):
    """How a ``.tflite`` file is read."""

    inputs: Mapping[str, str] | None = inputs_option(
        "An input with other sizes than the file's, e.g. 'x[batch,224,224,3]'."
    )


class TFLite(KerasForm):
    name = "tflite"
    title = "TensorFlow Lite"
    suffixes = (".tflite",)
    file_suffixes = (".tflite",)

    def read_model(self, source: Any, options: Any) -> Any:
        return KERAS.part("files.tensorflow_files").read_lite(Path(source), options)


FRAMEWORK = TFLite()
