"""Result files: ``.npz``, ``.npy``, CSV and Parquet, written beside and moved into place when they are complete.

CSV and Parquet are written batch by batch; a CSV has the columns ``name`` or ``name.0``, ``name.1``, ... in the order
of an output's flattened axes, Parquet a column of numbers or lists for each output.
"""

from __future__ import annotations

import csv
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.errors import FileError, SignatureError, require
from dlbridge.files import writing
from dlbridge.runtime.signature import Port

Append = Callable[[Mapping[str, np.ndarray]], None]


def check_suffix(path: str | os.PathLike[str], outputs: Sequence[Port]) -> str:
    """The kind of a result file.

    Raises:
        FileError: When it is none that is written, or a ``.npy`` file for several outputs.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise FileError(
            "not a kind of file that is written", where=str(path), hint=f"known: {', '.join(sorted(_WRITERS))}"
        )
    if suffix == ".npy" and len(outputs) != 1:
        raise FileError(
            f"a .npy file holds one array, the model gives {len(outputs)}", where=str(path), hint="use .npz"
        )
    return suffix


@contextmanager
def writing_results(path: str | os.PathLike[str], outputs: Sequence[Port], *, force: bool = False) -> Iterator[Append]:
    """Yield a function that takes the outputs of one batch after the other.

    Raises:
        FileError: When the file exists and ``force`` is not set, or is of no kind that is written.
        MissingExtraError: When it is a Parquet file and pyarrow is not installed.
    """
    suffix = check_suffix(path, outputs)
    with writing(path, force=force) as fresh, _WRITERS[suffix](fresh, outputs) as append:
        yield append


@contextmanager
def _npz(path: Path, outputs: Sequence[Port]) -> Iterator[Append]:
    parts: list[Mapping[str, np.ndarray]] = []
    yield parts.append
    with zipfile.ZipFile(path, "w") as archive:  # numpy.savez cannot write an array called "file"
        for port in outputs:
            with archive.open(f"{port.name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, _joined([b[port.name] for b in parts], port), allow_pickle=False)


@contextmanager
def _npy(path: Path, outputs: Sequence[Port]) -> Iterator[Append]:
    (port,) = outputs
    parts: list[np.ndarray] = []
    yield lambda batch: parts.append(batch[port.name])
    with path.open("wb") as stream:
        np.save(stream, _joined(parts, port), allow_pickle=False)


def _joined(parts: list[np.ndarray], port: Port) -> np.ndarray:
    if not parts:
        return np.zeros([s if isinstance(s, int) else 0 for s in port.shape], port.dtype)
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    array = plain(array)
    # object arrays would be pickled
    return array.astype(np.str_) if array.dtype == object else array


@contextmanager
def _csv(path: Path, outputs: Sequence[Port]) -> Iterator[Append]:
    with path.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        header: list[str] = []

        def append(batch: Mapping[str, np.ndarray]) -> None:
            flat = {p.name: _rows(batch[p.name], p).reshape(len(batch[p.name]), -1) for p in outputs}
            if not header:
                for port in outputs:
                    array = batch[port.name]
                    names = (f"{port.name}.{i}" for i in range(flat[port.name].shape[1]))
                    header.extend([port.name] if array.ndim == 1 else names)
                lines.writerow(header)
            table = np.concatenate([a.astype(np.str_) for a in flat.values()], axis=1)
            if table.shape[1] != len(header):
                raise SignatureError("the outputs of the batches are not of one shape", where="CSV", hint="use .npz")
            lines.writerows(table.tolist())

        yield append


@contextmanager
def _parquet(path: Path, outputs: Sequence[Port]) -> Iterator[Append]:
    pyarrow = require("pyarrow", "data")
    parquet = require("pyarrow.parquet", "data")
    writer: list[Any] = []

    def append(batch: Mapping[str, np.ndarray]) -> None:
        table = pyarrow.table({p.name: column(_rows(batch[p.name], p), p) for p in outputs})
        if not writer:
            writer.append(parquet.ParquetWriter(path, table.schema))
        if table.schema != writer[0].schema:
            raise SignatureError("the outputs of the batches are not of one shape", where="Parquet", hint="use .npz")
        writer[0].write_table(table)

    try:
        yield append
    finally:
        for open_writer in writer:
            open_writer.close()
    if not writer:
        parquet.write_table(pyarrow.table({p.name: [] for p in outputs}), path)


def column(array: np.ndarray, port: Port) -> Any:
    """An output as an Arrow array of numbers, or of lists: of a fixed length where the model fixes it."""
    pyarrow = require("pyarrow", "data")
    flat = pyarrow.array(array.reshape(-1), pyarrow.string() if array.dtype == object else None)
    for axis in reversed(range(1, array.ndim)):
        count, size = math.prod(array.shape[:axis]), array.shape[axis]
        if isinstance(port.shape[axis], int):
            flat = pyarrow.FixedSizeListArray.from_arrays(flat, size)
        else:
            starts = np.arange(count + 1, dtype=np.int64) * size
            flat = pyarrow.LargeListArray.from_arrays(starts, flat)
    return flat


def _rows(array: np.ndarray, port: Port) -> np.ndarray:
    if array.ndim == 0:
        raise SignatureError(f"the output {port} has no rows, a table has nothing but", hint="use .npz")
    return plain(array)


def plain(array: np.ndarray) -> np.ndarray:
    """Convert an array to a type that other programs read: bfloat16 and float8 become float32, without loss."""
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bf", "float8")):
        return array.astype(np.float32)
    return array


_WRITERS = {".npz": _npz, ".npy": _npy, ".csv": _csv, ".parquet": _parquet}
