"""Tables as arrays by name: ``.npz``, CSV and Parquet files, data frames, and Parquet files larger than memory."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.border import readable
from dlbridge.errors import FileError, TrainingError, require
from dlbridge.training.datasets.rows import Arrays, Rows

#: The largest size of a decompressed ``.npz`` file, in bytes.
MAX_UNPACKED = 64 << 30
#: A Parquet file that is larger than this when decompressed, in bytes, is read while it is trained on.
IN_MEMORY = 1 << 30
#: The rows of a Parquet file that are shuffled together take about so many bytes.
BLOCK = 128 << 20


def read_arrays(source: Mapping[str, Any] | str | os.PathLike[str]) -> Arrays:
    """Arrays by name, from a mapping or from a ``.npz``, CSV or Parquet file (a column each).

    Raises:
        FileError: When the file is missing, broken, or of another kind.
    """
    if isinstance(source, Mapping):
        return {name: np.asarray(array) for name, array in source.items()}
    path = Path(source)
    if not path.exists():
        raise FileError("no such file", where=str(path))
    if path.is_dir():
        raise FileError(
            "it has no folder of images for each class, and is no dataset on disk",
            where=str(path),
            hint="images lie in folders that have the names of their classes: cat/1.png, dog/1.png",
        )
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise FileError(
            f"'{path.suffix}' is no data that training reads",
            where=str(path),
            hint="give .npz, .csv, .parquet, a folder of images with one folder for each class, or a dataset on disk",
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


def _read_csv(path: Path) -> Arrays:
    """The columns of a CSV file. A first line of numbers alone is a row: the columns are then ``f0``, ``f1``, ..."""
    require("pyarrow", "data")
    import pyarrow
    import pyarrow.csv

    from dlbridge.runtime.readers import is_number

    try:
        table = pyarrow.csv.read_csv(path)
        if all(is_number(name) for name in table.column_names):
            table = pyarrow.csv.read_csv(path, read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None
    return from_table(table)


def _read_parquet(path: Path) -> Arrays:
    require("pyarrow", "data")
    import pyarrow
    import pyarrow.parquet

    try:
        return from_table(pyarrow.parquet.read_table(path))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None


def from_table(table: Any) -> Arrays:
    """The columns of an Arrow table as arrays; lists of equal lengths are further axes."""
    _check_names(table.column_names)
    return {name: from_column(table.column(name)) for name in table.column_names}


def from_column(column: Any) -> np.ndarray:
    """A column of an Arrow table as an array; a number that is missing is NaN."""
    import pyarrow

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    kind, shape, inner = column.type, [len(column)], column
    while _is_list(kind) and not inner.null_count:
        flat = inner.flatten()
        sizes = inner.value_lengths().to_numpy(zero_copy_only=False)
        if len(sizes) and (sizes != sizes[0]).any():
            break
        shape.append(int(sizes[0]) if len(sizes) else 0)
        kind, inner = flat.type, flat
    is_plain = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)
    if not is_plain:
        return _of_objects(column.to_pylist())
    if inner.null_count:  # NaN, which is refused where it is read
        inner = inner.cast("float64")
    return np.asarray(inner.to_numpy(zero_copy_only=False)).reshape(shape)


def _of_objects(given: list[Any]) -> np.ndarray:
    """Texts and the like as an array; lists of different lengths are an array of lists."""
    try:
        return np.array(given)
    except ValueError:
        found = np.empty(len(given), object)
        found[:] = given
        return found


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_frame(source: Any) -> bool:
    """Whether it is a data frame: of pandas, Polars, or whatever has columns as they do."""
    return hasattr(source, "columns") and hasattr(source, "dtypes") and hasattr(source, "__getitem__")


def from_frame(frame: Any) -> Arrays:
    """The columns of a data frame."""
    _check_names([str(name) for name in frame.columns])
    return {str(name): np.asarray(frame[name].to_numpy()) for name in frame.columns}


def _check_names(names: Sequence[str]) -> None:
    """Refuse a table whose columns cannot be told apart.

    Raises:
        TrainingError: It names the columns that have one name.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TrainingError(f"two columns of the data have the name '{twice[0]}'", hint="rename one, or leave it out")


def is_large(path: Path) -> bool:
    """Whether a file is Parquet that is better read while it is trained on than before."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    return _metadata_size(_parquet_file(path)) > IN_MEMORY


def _parquet_file(path: Path) -> Any:
    parquet = require("pyarrow.parquet", "data")
    pyarrow = require("pyarrow", "data")
    try:
        return parquet.ParquetFile(path, memory_map=True)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None


def _metadata_size(file: Any) -> int:
    groups = range(file.metadata.num_row_groups)
    return sum(file.metadata.row_group(group).total_byte_size for group in groups)


class ParquetRows(Rows):
    """The rows of a Parquet file, which are read when they are taken: some of its row groups are in memory at a time.

    In an epoch the row groups come in blocks, in an order that is drawn, and the rows of a block in an order that is
    drawn: where all rows cannot be in memory, so that near rows of the file stay near, the same in every framework.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, _parquet_file(path)
        metadata = self._file.metadata
        self.names = tuple(self._file.schema_arrow.names)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._blocks = self._divided([metadata.row_group(g).total_byte_size for g in range(len(counts))])
        self._held: OrderedDict[int, Arrays] = OrderedDict()
        self._reading = threading.Lock()
        self.size = _metadata_size(self._file)

    def _divided(self, sizes: list[int]) -> np.ndarray:
        """The block of each row group."""
        blocks, block, total = [], 0, 0
        for size in sizes:
            if total and total + size > BLOCK:
                block, total = block + 1, 0
            blocks.append(block)
            total += size
        return np.array(blocks, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> Arrays:
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        found: dict[str, np.ndarray] = {}
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            with self._reading:
                arrays = self._group(int(group))
            for name, array in arrays.items():
                part = array[rows[places] - self._starts[group]]
                if name not in found:
                    found[name] = np.empty((len(rows), *part.shape[1:]), part.dtype)
                elif found[name].dtype.kind == "U":  # a longer text may come
                    found[name] = found[name].astype(np.result_type(found[name].dtype, part.dtype))
                found[name][places] = part
        return found

    def column(self, name: str) -> np.ndarray:
        return from_column(self._file.read(columns=[name]).column(name))

    def order(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        blocks = self._blocks[np.searchsorted(self._starts, rows, side="right") - 1]
        drawn = [rows[blocks == block] for block in rng.permutation(np.unique(blocks))]
        return np.concatenate([part[rng.permutation(len(part))] for part in drawn])

    def _group(self, group: int) -> Arrays:
        """A row group, kept as long as its block may be needed."""
        if group not in self._held:
            self._held[group] = from_table(self._file.read_row_group(group))
            blocks = list(dict.fromkeys(int(self._blocks[held]) for held in reversed(self._held)))
            for other in [held for held in self._held if int(self._blocks[held]) in blocks[2:]]:
                del self._held[other]
        return self._held[group]
