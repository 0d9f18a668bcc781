"""Training data: arrays for a model's inputs and its target, in the same batches for every framework."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlbridge.border import readable
from dlbridge.errors import FileError, SignatureError, TrainingError, require, suggest
from dlbridge.model import Model
from dlbridge.training.loss_part import LossPart
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.targets import fit_target

Arrays = dict[str, np.ndarray]
Source = Mapping[str, Any] | str | os.PathLike[str]

#: The largest size of a decompressed ``.npz`` file, in bytes.
MAX_UNPACKED = 64 << 30


def read_arrays(source: Source) -> Arrays:
    """Arrays by name, from a mapping or from a ``.npz``, CSV or Parquet file (a column each).

    Raises:
        FileError: When the file is missing, broken, or of another kind.
    """
    if isinstance(source, Mapping):
        return {name: np.asarray(array) for name, array in source.items()}
    path = Path(source)
    if not path.exists():
        raise FileError("no such file", where=str(path))
    readers = {".npz": _read_npz, ".csv": _read_table, ".parquet": _read_table}
    if path.suffix.lower() not in readers:
        raise FileError(
            f"'{path.suffix}' is no data that training reads", where=str(path), hint="give .npz, .csv, .parquet"
        )
    return readers[path.suffix.lower()](path)


def _read_npz(path: Path) -> Arrays:
    import zipfile

    from dlbridge.runtime.readers import npz_member

    with readable(str(path)), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(item.file_size for item in members) > MAX_UNPACKED:
            raise FileError("it is larger than the limit when decompressed", where=str(path))
        return {item.filename.removesuffix(".npy"): npz_member(archive, item, path) for item in members}


def _read_table(path: Path) -> Arrays:
    require("pyarrow", "data")
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    try:
        table = pyarrow.csv.read_csv(path) if path.suffix.lower() == ".csv" else pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


@dataclass
class Dataset:
    """A model's inputs and the targets of its losses, row by row.

    Attributes:
        inputs: Input name -> array; the first axis counts rows.
        targets: The array that each loss compares with.
        weights: The weight of each row for each loss; None where all are 1.
        spec: The batch size, the order of the rows and the share that validates.
        names: The names of the targets in the data.
        number: The number of the epoch that it is in the order of.
        steps: The numbers of each batch; none where nothing is trained.
    """

    inputs: Arrays
    targets: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray | None, ...]
    spec: TrainingSpec
    names: tuple[str, ...] = ()
    number: int = 0
    steps: tuple[dict[str, float], ...] = ()

    @property
    def rows(self) -> int:
        return len(self.targets[0])

    @property
    def count(self) -> int:
        """The number of batches."""
        return -(-self.rows // self.spec.batch_size)

    @property
    def seed(self) -> int:
        """What random numbers of the epoch are drawn from, so that an epoch that is resumed draws the same."""
        return int(np.random.SeedSequence([self.spec.seed, self.number]).generate_state(1)[0])

    def split(self) -> tuple[Dataset, Dataset | None]:
        """Split the rows into those to train on and those to validate on, which are the last ones.

        Raises:
            TrainingError: When either would have no rows.
        """
        share = self.spec.validation_split
        if share == 0:
            return self, None
        kept = math.floor(self.rows * (1 - share))  # as Keras counts
        if kept == 0:
            raise TrainingError(f"a validation_split of {share} leaves no rows to train on")
        if kept == self.rows:
            raise TrainingError(f"a validation_split of {share} holds back none of {self.rows} rows")
        return self._rows(slice(0, kept)), self._rows(slice(kept, None))

    def _rows(self, rows: Any) -> Dataset:
        return replace(
            self,
            inputs={name: array[rows] for name, array in self.inputs.items()},
            targets=tuple(array[rows] for array in self.targets),
            weights=tuple(array[rows] if array is not None else None for array in self.weights),
        )

    def epoch(self, number: int, steps: Iterable[dict[str, float]] = ()) -> Dataset:
        """The rows in the order of an epoch: shuffled by (seed, epoch), in the same way for every framework."""
        order = np.random.default_rng([self.spec.seed, number]).permutation(self.rows)
        rows = self._rows(order) if self.spec.shuffle else self
        return replace(rows, number=number, steps=tuple(steps))

    def converted(self, convert: Callable[[np.ndarray], Any]) -> Dataset:
        """The same with every array as a framework's tensor."""
        return replace(
            self,
            inputs={name: convert(array) for name, array in self.inputs.items()},
            targets=tuple(convert(array) for array in self.targets),
            weights=tuple(None if array is None else convert(array) for array in self.weights),
        )

    def batches(self) -> Iterator[Batch]:
        """One batch after the other; the last may be smaller."""
        size = self.spec.batch_size
        for start in range(0, self.rows, size):
            rows = slice(start, start + size)
            yield Batch(
                {name: array[rows] for name, array in self.inputs.items()},
                tuple(array[rows] for array in self.targets),
                tuple(array[rows] if array is not None else None for array in self.weights),
                min(size, self.rows - start),
            )


class Batch(NamedTuple):
    """The rows of one step."""

    inputs: dict[str, Any]
    targets: tuple[Any, ...]
    weights: tuple[Any, ...]
    rows: int


def bind(model: Model, spec: TrainingSpec, source: Source) -> Dataset:
    """Find an array for each input and one for the target, and give them the dtypes that the model expects.

    If the data has columns in place of an input's array, as CSV files do, ``image_0, image_1, ...`` or
    ``image.0, image.1, ...`` are stacked in the order of their numbers.

    Raises:
        TrainingError: When an input or the target is missing, is not numeric or cannot be right, or when lengths
            differ.
        SignatureError: When an array does not have its input's shape, or has numbers that its dtype cannot represent.
    """
    arrays = read_arrays(source)
    dims: dict[str, int] = {}
    inputs, used = _bound_inputs(model, arrays, dims)
    target_names = tuple(_target(arrays, spec, loss, used) for loss in spec.losses)
    targets = [arrays[name] for name in target_names]
    weights = [_row_weights(arrays, loss) for loss in spec.losses]
    named = {w: array for loss, array in zip(spec.losses, weights, strict=True) if (w := loss.sample_weight)}
    found = {**inputs, **named} | {f"target {i + 1}": t for i, t in enumerate(targets[1:])} | {"target": targets[0]}
    lengths = {name: len(array) if array is not None and array.ndim else 0 for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        raise TrainingError(f"the arrays have different numbers of rows: {lengths}")
    if len(targets[0]) == 0:
        raise TrainingError("the data has no rows")
    fitted = (fit_target(t, model, loss, dims) for t, loss in zip(targets, spec.losses, strict=True))
    return Dataset(inputs, tuple(fitted), tuple(weights), spec, target_names)


def bind_inputs(model: Model, source: Source) -> Arrays:
    """Find an array for each input, as :func:`bind` does, where there is no target.

    Raises:
        TrainingError: When an input is missing or is not numeric, or when lengths differ.
        SignatureError: When an array does not fit its input.
    """
    inputs, _ = _bound_inputs(model, read_arrays(source), {})
    lengths = {name: len(array) if array.ndim else 0 for name, array in inputs.items()}
    if len(set(lengths.values())) > 1:
        raise TrainingError(f"the arrays have different numbers of rows: {lengths}")
    return inputs


def _bound_inputs(model: Model, arrays: Arrays, dims: dict[str, int]) -> tuple[Arrays, set[str]]:
    """The inputs, and the names of the arrays that they are made of; ``dims`` learns what the named sizes are."""
    inputs: Arrays = {}
    used: set[str] = set()
    for value in model.inputs:
        name = value.name or ""
        array, names = _find(arrays, name)
        used |= names
        assert value.dtype is not None and value.shape is not None
        inputs[name] = _fit(array, name, value, dims)
    return inputs, used


def _row_weights(arrays: Arrays, loss: LossPart) -> np.ndarray | None:
    name = loss.sample_weight
    if name is None:
        return None
    if name not in arrays:
        raise TrainingError(f"the data has no '{name}', the weights of rows", hint=suggest(name, arrays))
    array = arrays[name]
    _check_numbers(array, name)
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
        raise TrainingError("the weights of rows are one number for each, not negative", where=name)
    return array


def _find(arrays: Arrays, name: str) -> tuple[np.ndarray, set[str]]:
    if name in arrays:
        return arrays[name], {name}
    columns = [key for key in arrays if re.fullmatch(rf"{re.escape(name)}[_.]\d+", key)]
    if columns:
        columns.sort(key=lambda key: int(key[len(name) + 1 :]))
        return np.stack([arrays[k] for k in columns], axis=1), set(columns)
    hint = suggest(name, arrays) or f"the data has: {', '.join(arrays)}"
    raise TrainingError(f"the data has nothing for the input '{name}'", hint=hint)


def _fit(array: np.ndarray, name: str, value: Any, dims: dict[str, int]) -> np.ndarray:
    """The array of an input in its shape and dtype; ``dims`` learns what the named sizes are."""
    _check_numbers(array, name)
    wanted = [d if isinstance(d, int) else dims.get(d.value) for d in value.shape]
    if array.ndim == 2 and len(wanted) != 2 and None not in wanted[1:]:
        array = (
            array.reshape(len(array), *wanted[1:]) if array.shape[1] == math.prod(d or 0 for d in wanted[1:]) else array
        )
    if array.ndim != len(wanted) or any(
        w is not None and w != s for w, s in zip(wanted[1:], array.shape[1:], strict=True)
    ):
        raise SignatureError(f"the data has shape {array.shape}, the input {value.shape}", where=name)
    for dim, size in zip(list(value.shape)[1:], array.shape[1:], strict=True):
        if not isinstance(dim, int) and dim.value is not None:
            dims[dim.value] = size
    return _in_dtype(array, name, value.dtype.numpy())


def _in_dtype(array: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    """The array in an input's dtype, which must hold its numbers: no NaN, no fractions or overflow of integers."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise TrainingError(f"the data is NaN in row {np.argwhere(np.isnan(array))[0][0]}", where=name)
    if dtype == array.dtype:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = np.ascontiguousarray(array, dtype)
    wrong = fitted != array if dtype.kind in "biu" else np.isfinite(fitted) != np.isfinite(array)
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0])
        raise SignatureError(
            f"the input is {dtype}, which cannot hold the {array[index]} in row {index[0]}", where=name
        )
    return fitted


def _target(arrays: Arrays, spec: TrainingSpec, loss: LossPart, used: set[str]) -> str:
    """The name of a loss' target in the data."""
    weights = {other.sample_weight for other in spec.losses}
    free = [name for name in arrays if name not in used | weights]
    name = loss.target or ("label" if "label" in free else free[0] if len(free) == 1 else None)
    if name is None:
        raise TrainingError(
            f"which of {', '.join(free) or 'no arrays'} is the target is not clear",
            hint="name it 'label', or say loss.target",
        )
    if name not in arrays:
        raise TrainingError(f"the data has no '{name}'", hint=suggest(name, arrays) or f"it has: {', '.join(arrays)}")
    _check_numbers(arrays[name], name)
    return name


def _check_numbers(array: np.ndarray, name: str) -> None:
    if array.dtype.kind not in "biuf":
        raise TrainingError(f"'{name}' holds no numbers, it has dtype {array.dtype}")
