"""Input files as batches of arrays: ``.npz``, ``.npy``, CSV, Parquet and images. Files may be hostile: nothing in them
is executed (no pickle), and what they claim to hold is checked before memory is allocated for it.

Which numbers go where:

* ``.npz``: the array of an input's name; the only array of the file when the model has one input. Others are ignored.
* ``.npy``: the one input of the model.
* CSV: one row per line. A first line that is not all numbers is the header. An input takes the column of its name, or
  ``name.0``, ``name.1``, ... (or ``name_0``, ...) in the order of its flattened axes; the one input of a model takes
  all columns, when they are as many as it needs.
* Parquet: the column of an input's name, of numbers or lists; else as CSV.
* Images: the one input (see ``images``).

Integers become floats and floats floats of another width; a float never becomes an integer, and an integer only one
that can hold it.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import struct
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from dlbridge.errors import FileError, SignatureError, require
from dlbridge.runtime.images import IMAGE_SUFFIXES, image_reader, stacked
from dlbridge.runtime.signature import Port
from dlbridge.runtime.values import is_in_range

Batch = dict[str, np.ndarray]
#: A compressed array that is larger than this ...
_SUSPICIOUS_BYTES = 1 << 30
#: ... and this many times its compressed size is a bomb, not data.
_SUSPICIOUS_RATIO = 100


def read_batches(
    paths: Sequence[str | os.PathLike[str]], inputs: Sequence[Port], size: int | None, beside: Collection[str] = ()
) -> Iterator[Batch]:
    """Read a file, or several images, as batches.

    Args:
        paths: One ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` file, or images and folders of images.
        inputs: What the model takes.
        size: Rows in a batch (the last may be smaller); None for one batch of all rows.
        beside: Names of columns that are no input where a table holds them: the target that a model was trained on.

    Yields:
        Input name -> array of the input's dtype, rows on its first axis.

    Raises:
        FileError: When a file is missing, broken or hostile.
        SignatureError: When it does not hold what the inputs need.
    """
    files = _expand([Path(p) for p in paths])
    if all(f.suffix.lower() in IMAGE_SUFFIXES for f in files):
        return _images(files, inputs, size)
    if len(files) > 1:
        raise FileError("several files are taken of images alone", where=str(files[1]))
    (file,) = files
    suffix = file.suffix.lower()
    if suffix in _TABLES:
        return _TABLES[suffix](file, inputs, size, beside)
    reader = _READERS.get(suffix)
    if reader is None:
        known = ", ".join((*_READERS, *_TABLES, *IMAGE_SUFFIXES))
        raise FileError("not a kind of file that is read", where=str(file), hint=f"known: {known}")
    return reader(file, inputs, size)


def _expand(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                within = {str(p.parent) for p in path.glob("[!.]*/*") if p.suffix.lower() in IMAGE_SUFFIXES}
                hint = f"the folders in it have: {' '.join(sorted(within)[:3])}" if within else None
                raise FileError("there are no images in this folder", where=str(path), hint=hint)
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise FileError("no such file", where=str(path))
    if not files:
        raise FileError("no input file given")
    return files


def fit(array: np.ndarray, port: Port, where: str) -> np.ndarray:
    """Cast an array to the dtype of a port, by the rule of this module.

    Raises:
        SignatureError: When that would change numbers.
    """
    kinds = array.dtype.kind, port.dtype.kind
    if array.dtype == port.dtype:
        return array
    if port.dtype == object:
        if kinds[0] in "UTO":
            return array.astype(object)
    elif kinds[0] in "biuf" and port.dtype.kind not in "biu":  # ml_dtypes' floats are of kind V
        with np.errstate(over="ignore"):
            cast = array.astype(port.dtype)
        if is_in_range(cast, array):
            return cast
        raise SignatureError(f"a number is out of the range of the input {port}", where=where)
    elif kinds[0] in "biu" and kinds[1] in "iu":
        cast = array.astype(port.dtype)
        if np.array_equal(cast, array):
            return cast
    raise SignatureError(f"its {array.dtype} does not go into the input {port}", where=where)


# --- numpy ------------------------------------------------------------------------------------------------------------


def _npy(path: Path, inputs: Sequence[Port], size: int | None) -> Iterator[Batch]:
    port = _only(inputs, path, "a .npy file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FileError(f"not a .npy file of numbers: {error}", where=str(path)) from None
    return _slices({port.name: array}, inputs, size, path)


def _npz(path: Path, inputs: Sequence[Port], size: int | None) -> Iterator[Batch]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
            if len(inputs) == 1 and len(members) == 1:
                members = {inputs[0].name: next(iter(members.values()))}
            missing = [p.name for p in inputs if p.name not in members]
            if missing:
                raise SignatureError(
                    f"no array '{missing[0]}' in the file; there is {', '.join(members) or 'none'}", where=str(path)
                )
            arrays = {p.name: npz_member(archive, members[p.name], path) for p in inputs}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise FileError(f"not a .npz file: {error}", where=str(path)) from None
    return _slices(arrays, inputs, size, path)


def npz_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """The array in a member of a ``.npz`` file, checked before memory is allocated for it.

    Raises:
        FileError: When it is broken, unpacks to many times its size, or holds Python objects.
    """
    where = f"{path}:{info.filename}"
    if info.file_size > _SUSPICIOUS_BYTES and info.file_size > _SUSPICIOUS_RATIO * max(info.compress_size, 1):
        raise FileError(f"{info.compress_size} bytes unpack to {info.file_size}: this is no data", where=where)
    try:
        with archive.open(info) as stream:
            _check_header(stream, info.file_size)
        with archive.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # over a broken header or archive, Python's own libraries raise nearly anything
        raise FileError(f"not an array of numbers: {error}", where=where) from None


def _check_header(stream: IO[bytes], size: int) -> None:
    """Check that an array is as large as its header says, before memory is allocated for it."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"the header says {shape} of {dtype}, which is not what is there")


def _slices(arrays: Batch, inputs: Sequence[Port], size: int | None, path: Path) -> Iterator[Batch]:
    if size is None:
        yield {p.name: fit(arrays[p.name], p, f"{path}:{p.name}") for p in inputs}
        return
    rows = {n: len(a) if a.ndim else 0 for n, a in arrays.items()}
    if len(set(rows.values())) > 1:
        raise SignatureError(f"the arrays are not equally long: {rows}", where=str(path))
    for start in range(0, max(rows.values(), default=0), size):
        yield {p.name: fit(arrays[p.name][start : start + size], p, f"{path}:{p.name}") for p in inputs}


def _only(inputs: Sequence[Port], path: Path, what: str) -> Port:
    if len(inputs) != 1:
        raise SignatureError(
            f"{what} is one input, the model takes {', '.join(map(str, inputs)) or 'none'}",
            where=str(path),
            hint="use .npz",
        )
    return inputs[0]


# --- tables -----------------------------------------------------------------------------------------------------------


def _columns(port: Port, header: Sequence[str] | None, numbers: Sequence[int], alone: bool, where: str) -> list[int]:
    """The columns of a table that an input reads, in order.

    A model's only input reads the columns of ``numbers``, if they are as many as it takes: a table that a model was
    trained on has the names of its classes beside them.
    """
    row = port.shape[1:]
    if not all(isinstance(s, int) for s in row):
        raise SignatureError(
            f"the columns of a table cannot fill {port}",
            where=where,
            hint="use .npz, or Parquet with a column of lists",
        )
    count = math.prod(row)  # type: ignore[arg-type]
    names = {n: i for i, n in enumerate(header or [])}
    if count == 1 and port.name in names:
        return [names[port.name]]
    for mark in "._":
        numbered = [f"{port.name}{mark}{i}" for i in range(count)]
        if count and all(n in names for n in numbered):
            return [names[n] for n in numbered]
    if alone and len(numbers) == count:
        return list(numbers)
    wanted = f"'{port.name}'" if count == 1 else f"'{port.name}.0' to '{port.name}.{count - 1}'"
    raise SignatureError(
        f"the input {port} needs {count} column(s) of numbers; there are {len(numbers)}, "
        f"and none of the name(s) {wanted}",
        where=where,
    )


def _shaped(port: Port, flat: np.ndarray) -> np.ndarray:
    return flat.reshape(len(flat), *port.shape[1:])  # type: ignore[arg-type]


#: Types of Parquet columns that are not numbers.
_TEXTS = ("string", "large_string", "string_view", "null")


def _csv(path: Path, inputs: Sequence[Port], size: int | None, beside: Collection[str]) -> Iterator[Batch]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            first = next(lines, None)
            if first is None:
                raise FileError("the file is empty", where=str(path))
            header = None if all(is_number(cell) for cell in first) else [c.strip() for c in first]
            rows = lines if header else itertools.chain([first], lines)
            numbered = enumerate(rows, start=2 if header else 1)
            # a blank line at the end of a file is not a row
            below = ((number, row) for number, row in numbered if row)
            head = list(itertools.islice(below, 1))
            filled = itertools.chain(head, below)
            numbers = list(range(len(first)))
            if header and head and inputs[0].dtype != object:  # the first row below the names tells them from texts
                cells = enumerate(zip(head[0][1], header, strict=False))
                numbers = [i for i, (cell, name) in cells if is_number(cell) and name not in beside]
            places = {p.name: _columns(p, header, numbers, len(inputs) == 1, str(path)) for p in inputs}
            while chunk := list(itertools.islice(filled, size)):
                for number, row in chunk:
                    if len(row) != len(first):
                        raise FileError(f"{len(row)} cells, {len(first)} expected", where=f"{path}:{number}")
                yield {p.name: _shaped(p, _cells(chunk, places[p.name], p, path)) for p in inputs}
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"not a CSV file: {error}", where=str(path)) from None


def is_number(cell: str) -> bool:
    """Whether a cell of a table holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cells(chunk: list[tuple[int, list[str]]], places: list[int], port: Port, path: Path) -> np.ndarray:
    texts = [[row[i] for i in places] for _, row in chunk]
    if port.dtype == object:
        return np.array(texts, dtype=object)
    try:
        numbers = np.array(texts, dtype=np.str_).astype(np.int64 if port.dtype.kind in "biu" else np.float64)
    except (ValueError, OverflowError):
        for (number, _), cells in zip(chunk, texts, strict=True):
            for cell, place in zip(cells, places, strict=True):
                if not _fits(cell, port):
                    raise SignatureError(
                        f"column {place + 1} has {cell!r}, the input is {port}", where=f"{path}:{number}"
                    ) from None
        raise
    if port.dtype.kind == "b":
        return numbers != 0
    return fit(numbers, port, str(path)) if port.dtype.kind != "b" else numbers.astype(port.dtype)


def _fits(cell: str, port: Port) -> bool:
    try:
        (np.int64 if port.dtype.kind in "biu" else np.float64)(cell.strip())  # type: ignore[operator]
    except (ValueError, OverflowError):
        return False
    return True


def _parquet(path: Path, inputs: Sequence[Port], size: int | None, beside: Collection[str]) -> Iterator[Batch]:
    pyarrow = require("pyarrow", "data")
    parquet = require("pyarrow.parquet", "data")
    try:
        with parquet.ParquetFile(path) as file:
            rows = size or max(file.metadata.num_rows, 1)
            places = {p.name: columns_of(file.schema_arrow, p, len(inputs) == 1, str(path), beside) for p in inputs}
            for batch in file.iter_batches(batch_size=rows):
                yield {p.name: from_columns(batch, places[p.name], p, str(path)) for p in inputs}
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(f"not a Parquet file: {error}", where=str(path)) from None


def columns_of(schema: Any, port: Port, alone: bool, where: str, beside: Collection[str] = ()) -> list[int]:
    """The columns of an Arrow table that an input reads, by the rule of this module.

    Args:
        schema: The schema of the table.
        port: The input.
        alone: Whether the model has no other.
        where: What messages call the table.
        beside: Names of columns that are no input.

    Raises:
        SignatureError: When none fill it.
    """
    if port.name in schema.names:
        return [schema.names.index(port.name)]
    takes_all = port.dtype == object
    fields = [(i, field) for i, field in enumerate(schema) if field.name not in beside]
    numbers = [i for i, field in fields if takes_all or str(field.type) not in _TEXTS]
    return _columns(port, schema.names, numbers, alone, where)


def from_columns(batch: Any, columns: Sequence[int], port: Port, where: str) -> np.ndarray:
    """What an input reads of an Arrow batch: of one column of lists or numbers, or of a column for each number.

    Raises:
        SignatureError: When a cell is empty, or the numbers do not fit the input.
    """
    names = [f"{where}:{batch.schema.field(i).name}" for i in columns]
    if len(columns) == 1:
        return _lists(batch.column(columns[0]), port, names[0])
    parts = [fit(_numbers(batch.column(i), name), port, name) for i, name in zip(columns, names, strict=True)]
    return _shaped(port, np.stack(parts, axis=1))


def _numbers(column: Any, where: str) -> np.ndarray:
    if column.null_count:
        raise SignatureError(f"{column.null_count} cell(s) are empty", where=where)
    array = column.to_numpy(zero_copy_only=False)
    return array.astype(object) if array.dtype.kind == "U" else array


def _lists(column: Any, port: Port, where: str) -> np.ndarray:
    """A column of numbers, lists or lists of lists as one array, rows first."""
    shape = [len(column)]
    while hasattr(column, "flatten") and hasattr(column.type, "value_type"):
        if column.null_count:
            raise SignatureError(f"{column.null_count} cell(s) are empty", where=where)
        inner = column.flatten()
        count = len(inner) // max(len(column), 1)
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != count).any():
            raise SignatureError(
                "its lists are not equally long", where=where, hint="batch_size=1 takes them one by one"
            )
        shape.append(count)
        column = inner
    array = fit(_numbers(column, where), port, where).reshape(shape)
    row = port.shape[1:]
    if len(shape) < len(port.shape) and all(isinstance(s, int) for s in row):
        if math.prod(shape[1:]) != math.prod(row):  # type: ignore[arg-type]
            raise SignatureError(f"a row has {math.prod(shape[1:])} numbers, the input is {port}", where=where)
        return _shaped(port, array.reshape(len(array), -1))
    return array


# --- images -----------------------------------------------------------------------------------------------------------


def _images(files: list[Path], inputs: Sequence[Port], size: int | None) -> Iterator[Batch]:
    port = _only(inputs, files[0], "an image")
    read = image_reader(port, str(files[0]))
    rest = iter(files)
    while chunk := list(itertools.islice(rest, size)):
        yield {port.name: stacked(chunk, read)}


_READERS = {".npz": _npz, ".npy": _npy}
_TABLES = {".csv": _csv, ".parquet": _parquet}
