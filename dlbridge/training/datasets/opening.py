"""Opens training data of any kind, splits it, and prepares it as the specification says.

Data may be arrays by name, a data frame, an Arrow table, a ``.npz``, CSV or Parquet file, a folder of images with one
folder for each class, a dataset of Hugging Face (live or on disk), an object with ``len`` that gives a row by its
number (PyTorch's ``Dataset``), or batches of somebody else: a ``DataLoader``, a ``tf.data.Dataset``, a function that
returns a generator.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, TrainingError
from dlbridge.model import Model
from dlbridge.processing import Image, Processing
from dlbridge.processing.graph import channel_axis
from dlbridge.training.data import Augment, Dataset, joined
from dlbridge.training.datasets.batch_sizes import check_last_batch, one_row_at
from dlbridge.training.datasets.binding import bind, check_numbers, found_input, target_name, target_of_rows
from dlbridge.training.datasets.fitting import CHUNK, fitted
from dlbridge.training.datasets.pictures import ImageRows, SavedRows, is_image_folder, is_saved_dataset
from dlbridge.training.datasets.prepare import PreparedImage
from dlbridge.training.datasets.preparing import Preparation
from dlbridge.training.datasets.rows import ArrayRows, Arrays, ItemRows, Names, Part, Rows, split
from dlbridge.training.datasets.streams import Batches, Stream
from dlbridge.training.datasets.tables import (
    IN_MEMORY,
    ParquetRows,
    from_frame,
    from_table,
    is_frame,
    is_large,
    read_arrays,
)
from dlbridge.training.spec import TrainingSpec

Data = Dataset | Stream


@dataclass(frozen=True)
class Opened:
    """Data that a model can be trained on.

    Attributes:
        seen: The data to train on (this process' part of it, if several train together).
        held_out: The data to validate on, if any.
        processing: How the data is prepared for the model, fitted on ``seen``.
    """

    seen: Any
    held_out: Any
    processing: Processing


def open_data(
    model: Model,
    spec: TrainingSpec,
    source: Any,
    *,
    validation: Any = None,
    processing: Processing | None = None,
    workers: int = 0,
) -> Opened:
    """Open training data.

    Args:
        model: The model that is trained.
        spec: How it is trained.
        source: The data; see this module.
        validation: Data of its own to validate on.
        processing: The processing of the training that continues; fitted to the data when None.
        workers: The threads that read rows and change images ahead of the training.

    Raises:
        TrainingError: When the data does not fit the model or the specification.
        FileError: When a file is missing or broken.
    """
    if validation is not None and spec.validation_split:
        raise TrainingError("there is data of its own to validate on, and a validation_split", hint="leave out one")
    rows = opened(source, model, spec)
    spec = _with_images(model, spec, rows)
    seen, held_out = _split(rows, model, spec)
    if isinstance(seen, Part):
        check_last_batch(model, len(seen), spec.batch_size)
    labels = rows.labels if isinstance(rows, Rows) else {}
    if processing is None:
        is_asked = spec.prepare or spec.labels or spec.augment
        kept = None if is_asked else model.processing
        processing = kept or fitted(model, spec, seen, labels)
    plain = Preparation(model, processing)
    preparation = Preparation(model, processing, tuple(spec.augment)) if spec.augment else plain
    if validation is not None:
        other = opened(validation, model, spec)
        held_out = other if isinstance(other, Batches) else Part(other, np.arange(len(other)))
    _check_augment(spec, preparation)
    dtypes = {value.name or "": value.dtype.numpy() for value in model.inputs if value.dtype is not None}
    changed = preparation.augmenter(spec.augment, dtypes) if spec.augment else None
    binding = _Binding(model, spec, workers)
    return Opened(
        binding.data(seen, preparation, changed, is_trained_on=True),
        None if held_out is None else binding.data(held_out, plain),
        processing,
    )


def open_to_measure(model: Model, spec: TrainingSpec, source: Any) -> Data:
    """Open data to evaluate a model on: all rows are measured, none is trained on."""
    rows = opened(source, model, spec)
    part = rows if isinstance(rows, Batches) else Part(rows, np.arange(len(rows)))
    return _Binding(model, spec).data(part, Preparation(model, model.processing or Processing()))


class _Binding:
    """Turns rows and batches into what a model is trained on; in memory if they are small."""

    def __init__(self, model: Model, spec: TrainingSpec, workers: int = 0) -> None:
        self._model, self._spec, self._workers = model, spec, workers
        #: Arrays are bound once, as a whole, so that messages name rows by their numbers in the data.
        self._whole: dict[tuple[int, int], Dataset] = {}

    def data(
        self,
        source: Part | Batches,
        before: Preparation,
        augment: Augment | None = None,
        *,
        is_trained_on: bool = False,
    ) -> Data:
        """The rows or batches, prepared."""

        def bound(arrays: Arrays) -> Dataset:
            return bind(self._model, self._spec, arrays, before)

        if isinstance(source, Batches) or _size(self._model, source, before) > IN_MEMORY:
            one_row = one_row_at(self._model) if is_trained_on else None
            return Stream(source, self._spec, bound, augment, self._workers, one_row)
        if isinstance(source.rows, ArrayRows):
            key = id(source.rows), id(before)
            if key not in self._whole:
                self._whole[key] = bound(source.rows.arrays)
            data = self._whole[key].chosen(source.numbers)
        else:  # images as they are on the disk may be many times what is made of them: some at a time
            data = joined(map(bound, source.chunks(CHUNK)))
        return replace(data, augment=augment, workers=self._workers)


def _size(model: Model, part: Part, before: Preparation) -> int:
    """About how many bytes more rows take when they are in memory."""
    if isinstance(part.rows, ArrayRows):
        return 0
    size = part.rows.size * len(part) // max(len(part.rows), 1)
    for value in model.inputs:
        if isinstance(before.processing.inputs.get(value.name or ""), Image):
            sizes = [s for s in list(value.shape or ())[1:] if isinstance(s, int)]
            size += len(part) * int(np.prod(sizes)) * 4
    return size


def _split(rows: Rows | Batches, model: Model, spec: TrainingSpec) -> tuple[Part | Batches, Part | Batches | None]:
    if isinstance(rows, Batches):
        if spec.validation_split:
            raise TrainingError(
                "batches of somebody else cannot be split",
                hint="leave out validation_split, and give batches to validate on: validation=",
            )
        return rows, None
    is_stratified = rows.is_sorted if spec.stratify is None else spec.stratify
    if not is_stratified or not spec.validation_split:
        return split(rows, spec.validation_split, None)
    target = target_of_rows(model, spec, spec.losses[0], rows.take(np.arange(1)))
    return split(rows, spec.validation_split, target)


def _with_images(model: Model, spec: TrainingSpec, rows: Rows | Batches) -> TrainingSpec:
    """The specification; images of a folder are resized to the input's size where it does not say otherwise."""
    if not isinstance(rows, ImageRows) or rows.names[0] in spec.prepare or model.processing is not None:
        return spec
    return spec.model_copy(update={"prepare": {**spec.prepare, rows.names[0]: PreparedImage(kind="image")}})


def _check_augment(spec: TrainingSpec, preparation: Preparation) -> None:
    for name, parts in spec.augment.items():
        preparation.channel_axis(name)
        is_image = isinstance(preparation.processing.inputs.get(name), Image)
        if any(part.kind == "color" for part in parts) and not is_image:
            raise TrainingError(
                "colours are changed of images of bytes, whose black and white are known",
                where=name,
                hint=f"prepare: {{{name}: {{kind: image}}}}",
            )


# --- what is given ----------------------------------------------------------------------------------------------------


def opened(source: Any, model: Model, spec: TrainingSpec) -> Rows | Batches:
    """Rows, or batches, of what was given as data.

    Raises:
        TrainingError: When it is nothing that training reads, or there is nothing in it.
    """
    found = _found(source, model, spec)
    if not (found.count if isinstance(found, Batches) else len(found)):
        raise TrainingError("the data has no rows")
    return found


def _found(source: Any, model: Model, spec: TrainingSpec) -> Rows | Batches:
    names = _names(model, spec)
    if isinstance(source, (str, os.PathLike)):
        return _of_path(Path(source), names, model, spec)
    if isinstance(source, Mapping):
        return _array_rows(read_arrays(source), model, spec)
    if hasattr(source, "column_names") and hasattr(source, "to_pylist"):
        return _array_rows(from_table(source), model, spec)
    if is_frame(source):
        return _array_rows(from_frame(source), model, spec)
    if isinstance(source, (list, tuple)) or _gives_batches(source):
        return Batches(source, names)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return ItemRows(source, names)
    if hasattr(source, "__iter__") or callable(source):
        return Batches(source, names)
    raise TrainingError(
        f"a {type(source).__module__}.{type(source).__qualname__} is no data that training reads",
        hint="give arrays by name, a file, a folder of images, a Dataset, a DataLoader, a tf.data.Dataset, "
        "or a function that returns a generator of batches",
    )


def _of_path(path: Path, names: Names, model: Model, spec: TrainingSpec) -> Rows:
    if is_saved_dataset(path):
        return SavedRows(path, _channels(model))
    if is_image_folder(path):
        if len(names.inputs) != 1:
            raise TrainingError(f"images are of one input, the model has {', '.join(names.inputs)}", where=str(path))
        return ImageRows(path, names.inputs[0], names.targets[0], _channels(model))
    if is_large(path):
        return ParquetRows(path)
    return _array_rows(read_arrays(path), model, spec)


def _names(model: Model, spec: TrainingSpec) -> Names:
    targets = [
        loss.target or ("label" if place == 0 else f"label{place + 1}") for place, loss in enumerate(spec.losses)
    ]
    weights = [loss.sample_weight for loss in spec.losses if loss.sample_weight is not None]
    inputs = [value.name or "" for value in model.inputs]
    return Names(tuple(inputs), tuple(targets), tuple(dict.fromkeys(weights)))


def _array_rows(arrays: Arrays, model: Model, spec: TrainingSpec) -> ArrayRows:
    """The arrays that the model and its losses read."""
    used: set[str] = set()
    for value in model.inputs:
        array, names = found_input(model, arrays, value.name or "", spec)
        if array.dtype != object:  # images of different sizes
            check_numbers(array, value.name or "")
        used |= names
    kept = {*used, *(target_name(arrays, spec, loss, used) for loss in spec.losses)}
    kept |= {loss.sample_weight for loss in spec.losses if loss.sample_weight is not None}
    return ArrayRows({name: array for name, array in arrays.items() if name in kept})


def _gives_batches(source: Any) -> bool:
    """Whether an object that has ``len`` and gives parts by number gives batches: a ``PyDataset`` of Keras does."""
    return any(kind.__name__ in ("PyDataset", "DataLoader") for kind in type(source).__mro__)


def _channels(model: Model) -> int:
    """The channels that images are read with."""
    for value in model.inputs:
        shape: ir.Shape | None = value.shape
        if shape is not None and len(shape) == 4:
            try:
                count = shape[channel_axis(shape, Image(), f"input '{value.name}'")]
            except DlbridgeError:
                continue
            if isinstance(count, int):
                return count
    return 3
