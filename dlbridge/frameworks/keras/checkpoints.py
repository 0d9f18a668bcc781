"""Puts the weights of a file into a Keras model: ``.weights.h5``, an older ``.h5``, safetensors, ``.npz``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from dlbridge import checkpoints
from dlbridge.errors import FileError, WeightsError
from dlbridge.frameworks.keras.files import archive

_ARRAYS = (".safetensors", ".npz")


def fill(model: keras.Model, path: Path, *, strict: bool) -> None:
    """Put the weights of a file, or of the files that an index names, into a model.

    Arrays of safetensors and ``.npz`` go by the paths of variables (``dense/kernel``).

    Raises:
        FileError: When a file is missing, broken or hostile.
        WeightsError: When the weights do not fit the model, or it has none yet.
    """
    files = checkpoints.files(path)
    if not model.variables:
        raise WeightsError(
            "the model has no weights before it is called", where=model.name, hint="call it once where it is made"
        )
    suffix = path.suffix.lower()
    if suffix == ".h5":
        _fill_from_h5(model, path, strict)
    elif suffix in _ARRAYS or path.name.endswith(checkpoints.INDEX):
        _fill_from_arrays(model, path, files, strict)
    else:
        known = (".weights.h5", ".h5", *_ARRAYS, checkpoints.INDEX)
        raise FileError(
            f"'{suffix}' is no file of weights that Keras reads", where=str(path), hint=f"known: {', '.join(known)}"
        )


def _fill_from_arrays(model: keras.Model, path: Path, files: list[Path], strict: bool) -> None:
    found: dict[str, Any] = {}
    for file in files:
        found |= checkpoints.arrays(file)
    variables = {variable.path: variable for variable in model.variables}
    differing = checkpoints.differing(_shapes(found), _shapes(variables))
    _check(_shapes(found), _shapes(variables), differing, str(path), strict)
    for name, variable in variables.items():
        if name in found:
            variable.assign(found[name])


def _fill_from_h5(model: keras.Model, path: Path, strict: bool) -> None:
    where = str(path)
    archive.check_h5(path)
    with h5py.File(path, "r") as file:
        is_older = "layer_names" in file.attrs or "model_weights" in file
        found = _datasets(file)
    if not is_older:
        wanted = _written(model)
        _check(found, wanted, checkpoints.differing(found, wanted), where, strict)
    try:
        if is_older:
            model.load_weights(path)
        else:
            model.load_weights(path, skip_mismatch=not strict)
    except (ValueError, KeyError, OSError) as error:
        raise WeightsError(f"Keras cannot load them: {error}", where=where) from error


def _written(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what Keras would write of this model: it names weights by the places of their layers.

    Keras itself does not tell weights of a file that no layer of the model takes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        with h5py.File(path, "r") as file:
            return _datasets(file)


def _datasets(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every dataset but the states of optimizers."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            found[name] = tuple(item.shape)

    file.visititems(note)
    return found


def _shapes(items: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(item.shape) for name, item in items.items()}


def _check(found: Mapping[str, Any], wanted: Mapping[str, Any], differing: list[str], where: str, strict: bool) -> None:
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    checkpoints.check(missing, unexpected, differing, where, strict=strict, taken=len(found) - len(unexpected))
