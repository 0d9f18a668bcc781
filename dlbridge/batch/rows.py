"""Rows of a unit: what the model reads of them, and what is carried into the output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.batch.units import Images, RowGroups, Unit
from dlbridge.errors import FileError, SignatureError, require
from dlbridge.runtime.images import image_reader, stacked
from dlbridge.runtime.readers import columns_of, from_columns
from dlbridge.runtime.signature import Port


class Rows(ABC):
    """Some rows that are in memory."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def arrays(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """What the model reads of the rows from ``start`` to ``stop``.

        Raises:
            SignatureError: When a row does not fit the model, or the rows do not fit each other.
            FileError: When an image cannot be read.
        """

    @abstractmethod
    def carried(self) -> Any:
        """The Arrow batch of what goes into the output as it is."""

    @abstractmethod
    def place(self, row: int) -> tuple[str, int | None]:
        """The file of a row, and its number in the file (None for an image, which is a file)."""


class Reader(ABC):
    """Reads the units of one run.

    Attributes:
        carried: The Arrow schema of what goes into the output as it is.
    """

    carried: Any

    @abstractmethod
    def read(self, unit: Any, size: int) -> Iterator[Rows]:
        """The rows of a unit, ``size`` at a time."""


def reader(first: Unit, inputs: Sequence[Port], keep: Sequence[str] | None) -> Reader:
    """What reads the units of a run.

    Args:
        first: The first unit; the others must be like it.
        inputs: What the model takes.
        keep: The columns that go into the output; all that the model does not read when None.

    Raises:
        SignatureError: When the columns, or images, cannot fill the inputs.
        FileError: When a column of ``keep`` is not there.
    """
    if isinstance(first, Images):
        return _ImageReader(first, inputs, keep)
    return _TableReader(first, inputs, keep)


# --- Parquet ----------------------------------------------------------------------------------------------------------


class _TableReader(Reader):
    def __init__(self, first: RowGroups, inputs: Sequence[Port], keep: Sequence[str] | None) -> None:
        pyarrow = require("pyarrow", "data")
        with _open(first.file) as file:
            schema = file.schema_arrow
        known = set(schema.names)
        if len(known) < len(schema.names):
            raise FileError("several of its columns have one name", where=first.file)
        alone = len(inputs) == 1
        self._columns = {p: [schema.names[i] for i in columns_of(schema, p, alone, first.file)] for p in inputs}
        read = {name for names in self._columns.values() for name in names}
        kept = [n for n in schema.names if n not in read] if keep is None else list(keep)
        missing = [n for n in kept if n not in known]
        if missing:
            raise FileError(f"no column '{missing[0]}'; there is {', '.join(schema.names)}", where=first.file)
        self.carried = pyarrow.schema([schema.field(n) for n in kept])
        self._needed = pyarrow.schema([field for field in schema if field.name in read or field.name in kept])

    def read(self, unit: RowGroups, size: int) -> Iterator[Rows]:
        pyarrow = require("pyarrow", "data")
        first = unit.first
        try:
            with _open(unit.file) as file:
                self._check(file.schema_arrow, unit.file)
                names, groups = self._needed.names, list(unit.groups)
                for batch in file.iter_batches(size, row_groups=groups, columns=names, use_threads=False):
                    yield _TableRows(batch, self._columns, self.carried.names, unit.file, first)
                    first += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            raise FileError(f"it cannot be read: {error}", where=unit.file) from None

    def _check(self, schema: Any, file: str) -> None:
        for wanted in self._needed:
            places = schema.get_all_field_indices(wanted.name)
            found = schema.field(places[0]).type if len(places) == 1 else f"there {len(places)} times"
            if found != wanted.type:
                raise FileError(f"its column '{wanted.name}' is {found}, in the first file {wanted.type}", where=file)


class _TableRows(Rows):
    def __init__(
        self, batch: Any, columns: dict[Port, list[str]], carried: Sequence[str], file: str, first: int
    ) -> None:
        self._batch, self._carried, self._file, self._first = batch, carried, file, first
        self._columns = {port: [batch.schema.get_field_index(n) for n in names] for port, names in columns.items()}

    def __len__(self) -> int:
        return len(self._batch)

    def arrays(self, start: int, stop: int) -> dict[str, np.ndarray]:
        part = self._batch.slice(start, stop - start)
        return {port.name: from_columns(part, columns, port, self._file) for port, columns in self._columns.items()}

    def carried(self) -> Any:
        return self._batch.select(self._carried)

    def place(self, row: int) -> tuple[str, int | None]:
        return self._file, self._first + row


def _open(file: str) -> Any:
    parquet = require("pyarrow.parquet", "data")
    try:
        return parquet.ParquetFile(file)
    except (require("pyarrow", "data").ArrowException, OSError) as error:
        raise FileError(f"not a Parquet file: {error}", where=file) from None


# --- images -----------------------------------------------------------------------------------------------------------


class _ImageReader(Reader):
    def __init__(self, first: Images, inputs: Sequence[Port], keep: Sequence[str] | None) -> None:
        pyarrow = require("pyarrow", "data")
        if len(inputs) != 1:
            raise SignatureError(
                f"an image is one input, the model takes {', '.join(map(str, inputs))}", where=first.folder
            )
        if keep not in (None, [], ["path"], ("path",), ()):
            raise FileError("an image has one column, 'path'", where=first.folder)
        self.carried = pyarrow.schema([("path", pyarrow.string())] if keep is None or keep else [])
        self._port = inputs[0]
        self._image = image_reader(self._port, first.folder)

    def read(self, unit: Images, size: int) -> Iterator[Rows]:
        for start in range(0, unit.rows, size):
            yield _ImageRows(self, Path(unit.folder), unit.names[start : start + size])

    def arrays(self, files: Sequence[Path]) -> dict[str, np.ndarray]:
        """The images as the input of the model."""
        return {self._port.name: stacked(files, self._image)}


class _ImageRows(Rows):
    def __init__(self, reader: _ImageReader, folder: Path, names: Sequence[str]) -> None:
        self._reader, self._folder, self._names = reader, folder, names

    def __len__(self) -> int:
        return len(self._names)

    def arrays(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self._reader.arrays([self._folder / name for name in self._names[start:stop]])

    def carried(self) -> Any:
        pyarrow = require("pyarrow", "data")
        schema = self._reader.carried
        return pyarrow.record_batch([pyarrow.array(self._names, pyarrow.string())] * len(schema), schema=schema)

    def place(self, row: int) -> tuple[str, int | None]:
        return str(self._folder / self._names[row]), None
