"""Makes SavedModels, and runs them by TensorFlow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dlbridge.files import writing
from dlbridge.frameworks.keras.files import saved_models
from dlbridge.source.program import Source


class Live:
    """A SavedModel that was loaded again.

    Args:
        source: What it is made of.
    """

    def __init__(self, source: Source) -> None:
        self.dlbridge_source = source
        with tempfile.TemporaryDirectory(prefix="dlbridge-") as folder:
            saved_models.export(source, Path(folder))
            self._loaded = tf.saved_model.load(folder)
        self.served = self._loaded.signatures[saved_models.SIGNATURE]


def load(source: Source) -> Live:
    """The SavedModel of a source, written and loaded again."""
    return Live(source)


def run(live: Live, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the function that is served."""

    def served(**arrays: Any) -> dict[str, Any]:
        return live.served(**{name: tf.constant(array) for name, array in arrays.items()})

    return saved_models.run(served, live.dlbridge_source, inputs)


def save(source: Source, target: Path, *, certificate: Mapping[str, Any] | None = None, force: bool = False) -> Path:
    """Write the folder, with the certificate in it."""
    with writing(target, force=force) as fresh:
        saved_models.export(source, fresh)
        if certificate is not None:
            (fresh / "certificate.json").write_text(json.dumps(certificate, indent=2) + "\n", encoding="utf-8")
    return target


def save_weights(source: Source, folder: Path) -> None:
    """Write the SavedModel, which holds the weights, into a folder."""
    saved_models.export(source, folder / "saved_model")
