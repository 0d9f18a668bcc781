"""Units of a batch run: which rows of which files are run, and written, together."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from dlbridge.errors import FileError, require
from dlbridge.runtime.images import IMAGE_SUFFIXES

#: A unit of Parquet takes row groups until it has so many rows ...
_ROWS = 65_536
#: ... or so many bytes, before compression.
_BYTES = 256 << 20
#: Images in a unit.
_IMAGES = 1024
_PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class RowGroups:
    """Row groups of a Parquet file that follow each other.

    Attributes:
        file: The file.
        groups: The numbers of the row groups.
        first: The number of their first row in the file.
        rows: How many rows they have.
    """

    file: str
    groups: tuple[int, ...]
    first: int
    rows: int

    def __str__(self) -> str:
        return f"{self.file}, rows {self.first} to {self.first + self.rows - 1}"


@dataclass(frozen=True)
class Images:
    """Images of a folder.

    Attributes:
        folder: The folder.
        names: Their paths in it.
    """

    folder: str
    names: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.names)

    def __str__(self) -> str:
        return f"{self.folder}, {self.names[0]} to {self.names[-1]}"


Unit: TypeAlias = RowGroups | Images


def plan(data: Sequence[str]) -> list[Unit]:
    """Cut data into units.

    Args:
        data: Parquet files, folders of Parquet files or of images (whatever is below them too), or patterns of these
            (``in/*.parquet``).

    Returns:
        The units, in the order of the paths. The same files always give the same units.

    Raises:
        FileError: When a pattern finds nothing, a file is broken or of another kind, or there are no rows.
    """
    units: list[Unit] = []
    for path in _paths(data):
        units += _images(path) if _has_images(path) else _row_groups(path)
    if not units:
        raise FileError("there are no rows in it", where=", ".join(data))
    if len({type(unit) for unit in units}) > 1:
        raise FileError("Parquet files and images do not go together", where=", ".join(data), hint="run them apart")
    return units


def _paths(data: Sequence[str]) -> list[Path]:
    """Files of Parquet and folders of images, each once, in order."""
    found: dict[Path, None] = {}
    for text in data:
        matches = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise FileError("no such file or folder", where=text)
        for path in map(Path, matches):
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _PARQUET_SUFFIXES) if path.is_dir() else []
            found.update(dict.fromkeys(files or [path]))
    return list(found)


def _has_images(path: Path) -> bool:
    if path.is_dir():
        return True
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return False
    kinds = ", ".join(_PARQUET_SUFFIXES)
    hint = "give the folder of the images" if path.suffix.lower() in IMAGE_SUFFIXES else f"known: {kinds}"
    raise FileError("not a kind of file that is read row by row", where=str(path), hint=hint)


def _images(folder: Path) -> Iterator[Unit]:
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not names:
        raise FileError("there are neither Parquet files nor images in this folder", where=str(folder))
    for start in range(0, len(names), _IMAGES):
        yield Images(str(folder), tuple(names[start : start + _IMAGES]))


def _row_groups(file: Path) -> Iterator[Unit]:
    first = rows = size = 0
    groups: list[int] = []
    for group, (count, weight) in enumerate(_sizes_of_groups(file)):
        groups.append(group)
        rows, size = rows + count, size + weight
        if rows >= _ROWS or size >= _BYTES:
            yield RowGroups(str(file), tuple(groups), first, rows)
            first, rows, size, groups = first + rows, 0, 0, []
    if rows:
        yield RowGroups(str(file), tuple(groups), first, rows)


def _sizes_of_groups(file: Path) -> list[tuple[int, int]]:
    """(rows, bytes) of each row group."""
    pyarrow = require("pyarrow", "data")
    parquet = require("pyarrow.parquet", "data")
    try:
        with parquet.ParquetFile(file) as opened:
            groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
            return [(group.num_rows, group.total_byte_size) for group in groups]
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(f"not a Parquet file: {error}", where=str(file)) from None
