"""Descriptions: YAML or JSON that a person writes, the canonical form, and saved models.

A saved model is a folder: ``model.yaml``, the canonical description, its weights as safetensors, and
``processing.yaml``, what is done with data before it, where that is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import processing
from dlbridge.border import check, readable
from dlbridge.description import weights as weights_files
from dlbridge.description.describe import describe
from dlbridge.description.document import Document, read, to_yaml
from dlbridge.description.expand import expand
from dlbridge.errors import FileError
from dlbridge.files import writing
from dlbridge.model import Model

__all__ = ["describe", "dump", "expand", "load", "save"]

MODEL_FILE = "model.yaml"
#: What is done with data before a saved model gets it, where that is said.
PROCESSING_FILE = "processing.yaml"


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    weights: str | os.PathLike[str] | Mapping[str, np.ndarray] | None = None,
) -> Model:
    """A description as a model.

    Args:
        source: A ``.yaml`` or ``.json`` file, the folder of a saved model, the text of a description, or a dict.
        weights: A safetensors file (or the index of several), or arrays by name. Without it the weights are those that
            the description names, or start from its seed.

    Raises:
        DescriptionError: When the description is broken or says something that has no meaning.
        ShapeError: When shapes or dtypes do not fit.
        WeightsError: When weights are missing, broken, or of another shape or dtype.
        FileError: When there is no such file.
    """
    if isinstance(source, os.PathLike) or (isinstance(source, str) and "\n" not in source and Path(source).is_dir()):
        source = Path(source)
        if source.is_dir():
            source = source / MODEL_FILE
            if not source.exists():
                raise FileError(
                    f"the folder is no saved model: it has no {MODEL_FILE}",
                    where=str(source.parent),
                    hint=_hint(source.parent),
                )
    kept = source.parent / PROCESSING_FILE if isinstance(source, Path) and source.name == MODEL_FILE else None
    where = "<description>" if isinstance(source, Mapping) or "\n" in str(source) else str(source)
    with readable(where):
        model = _expanded(read(source), weights)
    check(model, where)
    if kept is not None and kept.is_file():
        model.processing = processing.load(kept)
    return model


def _hint(folder: Path) -> str:
    """What to do about a folder that no reader takes. One that 'convert' has written has code that makes the model."""
    code = folder / "model.py"
    weights = next(iter(sorted(folder.glob("*weights*"))), None)
    if code.is_file() and weights is not None:
        return f"its code makes the model: name what there is to call in it: {code}:NAME --weights {weights}"
    if (folder / "config.json").is_file():
        return "its config.json is broken, or has neither 'architectures' nor 'model_type', which Hugging Face writes"
    return f"name the file of the model, or the folder that has {MODEL_FILE} in it"


def _expanded(document: Document, weights: str | os.PathLike[str] | Mapping[str, np.ndarray] | None) -> Model:
    if weights is None:
        return expand(document)
    if isinstance(weights, Mapping):
        return expand(document, {name: ir.tensor(np.asarray(array), name=name) for name, array in weights.items()})
    return expand(document, weights_files.read(Path(weights)))


def dump(model: Model) -> str:
    """The canonical description of a model as YAML text."""
    return to_yaml(describe(model))


def save(model: Model, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Save a model as a folder: ``model.yaml`` and its weights as safetensors. The folder appears when it is complete.

    Raises:
        FileError: When the folder exists and ``force`` is not set.
        DescriptionError: When a description cannot hold the model.
    """
    data = describe(model)
    stored = {name: v for name, v in model.graph.initializers.items() if "value" not in data["initializers"][name]}
    with writing(folder, force=force) as fresh:
        fresh.mkdir()
        if stored:
            data["weights"] = weights_files.write({n: v.const_value for n, v in stored.items()}, fresh)  # type: ignore[misc]
        (fresh / MODEL_FILE).write_text(to_yaml(data), encoding="utf-8")
        if model.processing is not None:
            processing.save(model.processing, fresh / PROCESSING_FILE)
    return Path(folder)
