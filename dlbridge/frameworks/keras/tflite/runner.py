"""Makes ``.tflite`` files by TensorFlow's converter, and runs them by its interpreter."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dlbridge.errors import DlbridgeError, MissingKernelError, WrittenModelError, first_line
from dlbridge.frameworks.keras.files import saved_models
from dlbridge.source.program import Source


class Live:
    """An interpreter of a file.

    Args:
        source: What the file is made of.
    """

    def __init__(self, source: Source) -> None:
        self.dlbridge_source = source
        self._interpreter = _lite().Interpreter(model_content=convert(source))
        self.served = self._interpreter.get_signature_runner(saved_models.SIGNATURE)


def _lite() -> Any:
    """TensorFlow's part that makes and runs such files.

    Raises:
        DlbridgeError: When this TensorFlow has it no more.
    """
    lite = getattr(tf, "lite", None)
    if lite is None or not hasattr(lite, "TFLiteConverter"):
        raise DlbridgeError(
            f"TensorFlow {tf.__version__} has no converter to TensorFlow Lite",
            hint="install a TensorFlow that has tf.lite (2.21 does), or write a SavedModel and convert that",
        )
    return lite


def convert(source: Source) -> bytes:
    """The file of a source.

    Raises:
        WrittenModelError: When the converter cannot say the model; its ops without a word there are named.
    """
    lite = _lite()
    with tempfile.TemporaryDirectory(prefix="dlbridge-") as folder:
        saved_models.export(source, Path(folder), frozen=True)
        converter = lite.TFLiteConverter.from_saved_model(folder, signature_keys=[saved_models.SIGNATURE])
        try:
            return converter.convert()
        except Exception as error:  # the converter raises errors of many kinds
            text = str(error)
            missing = sorted(set(re.findall(r"tf\.([A-Z]\w+)", text)))
            if missing:
                hint = "a SavedModel has them (--to savedmodel); a .tflite file that has them cannot be run here"
                if any(name.startswith("TensorList") for name in missing):  # of a recurrent layer
                    hint = "its recurrent layers need a batch that is a number: --input 'x[1,...]'"
                words = f"TensorFlow Lite has no op for TensorFlow's {', '.join(missing)}"
                raise WrittenModelError(words, where=source.model.name, hint=hint) from error
            raise WrittenModelError(
                f"TensorFlow's converter fails: {first_line(error)}", where=source.model.name
            ) from error


def load(source: Source) -> Live:
    """The file of a source, in an interpreter."""
    return Live(source)


def run(live: Live, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the file on arrays, of any sizes where those of the model are free.

    Raises:
        MissingKernelError: When the interpreter has no kernel for one of its ops in its type.
        SignatureError: When an input is missing.
    """
    try:
        return saved_models.run(live.served, live.dlbridge_source, inputs)
    except (RuntimeError, ValueError) as error:
        raise MissingKernelError(
            f"the interpreter cannot run it: {first_line(error)}", where=live.dlbridge_source.model.name
        ) from error


def save_weights(source: Source, folder: Path) -> None:
    """Write ``model.tflite``, which holds the weights, into a folder."""
    (folder / "model.tflite").write_bytes(convert(source))
