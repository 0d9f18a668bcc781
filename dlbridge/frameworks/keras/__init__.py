"""Keras 3: read from its graph of layers and operations, written as a functional model, trained by ``fit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge.errors import require

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """TensorFlow's libraries write to file descriptor 2 while they load, before they look at any log level."""
    sys.stderr.flush()
    kept, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(void)


class Keras:
    name = "keras"
    extra = "keras"
    exporter = "tf2onnx"
    suffixes = (".keras", ".h5")
    read_options = ("inputs", "name", "trust_code", "partial")
    write_options = ("io_layout", "partial")

    def _part(self, name: str) -> Any:
        if "tensorflow" not in sys.modules and os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
            with _silent_stderr():
                require("keras", self.extra)
        return require(f"dlbridge.frameworks.keras.{name}", self.extra)

    def accepts(self, source: object) -> bool:
        keras = sys.modules.get("keras")
        return keras is not None and isinstance(source, keras.Model)

    def read(self, source: Any, **options: Any) -> Model:
        return self._part("reader").read(source, **options)

    def write(self, model: Model, **options: Any) -> Source:
        return self._part("writer").write(model, **options)

    def load(self, source: Source) -> Any:
        return self._part("runner").load(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._part("runner").run(live, inputs)

    def exact(self, live: Any) -> Any:
        return self._part("runner").exact(live)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        return self._part("runner").weights(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        self._part("runner").save_weights(source, folder)

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        return self._part("onnx_export").export(live, model, path, opset=opset)

    def trainer(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> Any:
        return self._part("trainer").Trainer(model, spec, from_logits=from_logits, checkpoint=checkpoint)


FRAMEWORK = Keras()
