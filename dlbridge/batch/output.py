"""The output folder of a batch run: a part for each unit, rejected rows beside them, and what run it is of.

    out/
      run.json                       what is run on what
      part-00000.parquet             results of unit 0: the columns that are carried, then the outputs
      rejected/part-00000.parquet    its rejected rows: the columns that are carried, file, row, reason

A part is moved into place when it is whole, after its rejected rows. So a unit is done when its part is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.errors import FileError, require
from dlbridge.files import replacing
from dlbridge.runtime.signature import Port
from dlbridge.runtime.writers import column, plain

RUN_FILE = "run.json"
REJECTED = "rejected"
#: Columns of rejected rows.
_REASONS = ("rejected_file", "rejected_row", "rejected_reason")


class Part:
    """The part of one unit, while it is written.

    Attributes:
        rows: Rows with results so far.
        rejected: Rejected rows so far.
        first_reason: Why the first of them was rejected.
    """

    def __init__(self, writer: Any, carried: Any, outputs: Sequence[Port]) -> None:
        self._writer, self._outputs = writer, outputs
        self._rejected: list[Any] = []
        self._schema = carried
        self.rows = self.rejected = 0
        self.first_reason = ""

    def add(self, carried: Any, outputs: Mapping[str, np.ndarray]) -> None:
        """Write rows: what is carried of them, and their results."""
        pyarrow = require("pyarrow", "data")
        columns = [column(plain(outputs[port.name]), port) for port in self._outputs]
        self._writer.write_batch(
            pyarrow.record_batch([*carried.columns, *columns], schema=self._writer.schema), row_group_size=None
        )
        self.rows += len(carried)

    def reject(self, carried: Any, file: str, row: int | None, reason: str) -> None:
        """Note a row that has no result, and why."""
        pyarrow = require("pyarrow", "data")
        why = [pyarrow.array([file]), pyarrow.array([row], pyarrow.int64()), pyarrow.array([reason])]
        self._rejected.append(pyarrow.record_batch([*carried.columns, *why], schema=_rejected_schema(self._schema)))
        self.first_reason = self.first_reason or reason
        self.rejected += 1

    @property
    def rejected_table(self) -> Any:
        """The rejected rows as an Arrow table."""
        return require("pyarrow", "data").Table.from_batches(self._rejected, _rejected_schema(self._schema))


class Parts:
    """The parts of a run.

    Args:
        out: The folder.
        carried: The Arrow schema of the columns that are carried.
        outputs: The outputs of the model.

    Raises:
        FileError: When a carried column has the name of an output.
    """

    def __init__(self, out: str, carried: Any, outputs: Sequence[Port]) -> None:
        names = [port.name for port in outputs]
        both = next((name for name in carried.names if name in names), None)
        if both is not None:
            hint = "name the columns that are to be kept with --keep, or convert the model with --rename"
            raise FileError(f"the data have a column '{both}', and the model an output", where=out, hint=hint)
        self._out, self._carried, self._outputs = Path(out), carried, outputs
        self._schema = _schema(carried, outputs)

    @contextmanager
    def writing(self, number: int) -> Iterator[Part]:
        """Yield a part to write; it is in its place when the block ends without an error."""
        parquet = require("pyarrow.parquet", "data")
        with replacing(part_file(self._out, number)) as fresh:
            with parquet.ParquetWriter(fresh, self._schema, compression="zstd") as writer:
                part = Part(writer, self._carried, self._outputs)
                yield part
            self._write_rejected(number, part)

    def _write_rejected(self, number: int, part: Part) -> None:
        target = rejected_file(self._out, number)
        if not part.rejected:
            target.unlink(missing_ok=True)  # of a run that was stopped, with a file that has changed since
            return
        target.parent.mkdir(exist_ok=True)
        with replacing(target) as fresh:
            require("pyarrow.parquet", "data").write_table(part.rejected_table, fresh)


def part_file(out: Path, number: int) -> Path:
    """The file of a unit's results."""
    return out / f"part-{number:05}.parquet"


def rejected_file(out: Path, number: int) -> Path:
    """The file of a unit's rejected rows."""
    return out / REJECTED / f"part-{number:05}.parquet"


def rows_in(file: Path) -> int:
    """How many rows a Parquet file has; none where there is no file.

    Raises:
        FileError: When it is broken.
    """
    if not file.exists():
        return 0
    pyarrow = require("pyarrow", "data")
    try:
        return int(require("pyarrow.parquet", "data").read_metadata(file).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(f"not a Parquet file: {error}", where=str(file), hint="delete it and run again") from None


def read_run(out: Path) -> dict[str, Any] | None:
    """What run a folder is of; None when it is of none.

    Raises:
        FileError: When something else is there.
    """
    file = out / RUN_FILE
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise FileError(f"it cannot be read: {error}", where=str(file)) from None
        if isinstance(found, dict):
            return found
        raise FileError("it is not of a batch run", where=str(file))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(
            "there is something else", where=str(out), hint="choose another folder, or pass --force to replace it"
        )
    return None


def write_run(out: Path, run: Mapping[str, Any]) -> None:
    """Write what run a folder is of."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / RUN_FILE) as fresh:
        fresh.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _schema(carried: Any, outputs: Sequence[Port]) -> Any:
    """The Arrow schema of results."""
    pyarrow = require("pyarrow", "data")
    empty = {
        p.name: np.zeros([s if isinstance(s, int) and axis else 0 for axis, s in enumerate(p.shape)], p.dtype)
        for p in outputs
        if p.shape
    }
    fields = [(p.name, column(plain(empty[p.name]), p).type) for p in outputs if p.shape]
    return pyarrow.schema([*carried, *(pyarrow.field(name, kind) for name, kind in fields)])


def _rejected_schema(carried: Any) -> Any:
    pyarrow = require("pyarrow", "data")
    kinds = (pyarrow.string(), pyarrow.int64(), pyarrow.string())
    return pyarrow.schema([*carried, *(pyarrow.field(n, k) for n, k in zip(_REASONS, kinds, strict=True))])
