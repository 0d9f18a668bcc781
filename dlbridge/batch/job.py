"""What a batch run does to one unit: reads, runs, writes. It is the same here and on every worker of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from dlbridge.batch.output import Part, Parts
from dlbridge.batch.rows import Reader, Rows, reader
from dlbridge.batch.units import Unit
from dlbridge.errors import DlbridgeError, FileError, SignatureError
from dlbridge.runtime.loading import load
from dlbridge.runtime.session import Session

#: From so many rows on, a unit without one good row is a mistake in how the run was asked for, not bad rows.
_MANY = 32
#: Rows from ``start`` to ``stop``: the outputs of the model, or why there are none.
_Outcome: TypeAlias = tuple[int, int, Mapping[str, np.ndarray] | DlbridgeError]


@dataclass(frozen=True)
class Job:
    """What is run, on what, and where the results go.

    Attributes:
        model: The ``.onnx`` file.
        out: The folder of the results.
        units: What is run.
        batch_size: Rows at a time.
        keep: The columns that go into the output; all that the model does not read when None.
        strict: Whether the first bad row ends the run.
        providers: Execution providers, as for :func:`dlbridge.runtime.load`.
        threads: Threads for one op; by the work of a batch when None, as for :func:`dlbridge.runtime.load`.
    """

    model: str
    out: str
    units: Sequence[Unit] = field(repr=False)
    batch_size: int = 32
    keep: Sequence[str] | None = None
    strict: bool = False
    providers: Sequence[str] = ("cpu",)
    threads: int | None = None


@dataclass(frozen=True)
class Done:
    """What became of a unit.

    Attributes:
        number: Its number.
        rows: Rows with results.
        rejected: Rows without.
    """

    number: int
    rows: int
    rejected: int


class Worker:
    """Runs units of a job with one model that is loaded once.

    Args:
        job: The job.
        threads: Threads for one op; those of the job when None.

    Raises:
        FileError: When the model cannot be loaded, or a column is missing.
        SignatureError: When the data cannot fill the model's inputs, or its outputs are not rows.
    """

    def __init__(self, job: Job, threads: int | None = None) -> None:
        self._job = job
        self._session = load(job.model, job.providers, threads=threads or job.threads, rows=job.batch_size)
        self._size = _rows_at_a_time(self._session, job.batch_size)
        self._reader: Reader = reader(job.units[0], self._session.inputs, job.keep)
        self.parts = Parts(job.out, self._reader.carried, self._session.outputs)

    def run(self, number: int) -> Done:
        """Run a unit and write its part.

        Raises:
            FileError: When the unit cannot be read, or its part not be written.
            SignatureError: When a row is bad and the job is strict, or when no row is good.
        """
        unit = self._job.units[number]
        with self.parts.writing(number) as part:
            for rows in self._reader.read(unit, self._size):
                for start, stop, found in self._outcomes(rows, 0, len(rows)):
                    self._keep(part, rows, start, stop, found)
            if part.rows == 0 and part.rejected >= _MANY:
                raise SignatureError(
                    f"none of the {part.rejected} rows could be run; the first: {part.first_reason}",
                    where=str(unit),
                    hint="does the model read these data?",
                )
        return Done(number, part.rows, part.rejected)

    def _keep(
        self, part: Part, rows: Rows, start: int, stop: int, found: Mapping[str, np.ndarray] | DlbridgeError
    ) -> None:
        carried = rows.carried().slice(start, stop - start)
        if not isinstance(found, DlbridgeError):
            part.add(carried, found)
            return
        if self._job.strict:
            raise found
        part.reject(carried, *rows.place(start), found.message)

    def _outcomes(self, rows: Rows, start: int, stop: int) -> Iterator[_Outcome]:
        """Run rows together; where that fails, each half of them, down to the row that is the cause."""
        try:
            yield start, stop, self._outputs(rows, start, stop)
            return
        except (FileError, SignatureError) as error:
            if stop - start == 1:
                file, number = rows.place(start)
                error.where = file if number is None else f"{file}, row {number}"
                yield start, stop, error
                return
        middle = (start + stop) // 2
        yield from self._outcomes(rows, start, middle)
        yield from self._outcomes(rows, middle, stop)

    def _outputs(self, rows: Rows, start: int, stop: int) -> Mapping[str, np.ndarray]:
        outputs = self._session.run(rows.arrays(start, stop))
        for port in self._session.outputs:
            array = outputs[port.name]
            if array.ndim == 0 or len(array) != stop - start:
                raise SignatureError(
                    f"the output {port} is not one row for each row of the input: {stop - start} rows went in, "
                    f"its shape is {list(array.shape)}"
                )
        return outputs


def _rows_at_a_time(session: Session, batch_size: int) -> int:
    """How many rows the model takes in a call.

    Raises:
        SignatureError: When rows cannot be given to it one after the other.
    """
    firsts = {port.shape[0] if port.shape else 0 for port in session.inputs}
    first = firsts.pop() if firsts else 0
    if firsts or first == 0:
        raise SignatureError(
            f"its inputs have no common axis of rows: {', '.join(map(str, session.inputs))}", where=session.name
        )
    if isinstance(first, int) and first != 1:
        raise SignatureError(
            f"it takes {first} rows at a time, no more and no fewer: {', '.join(map(str, session.inputs))}",
            where=session.name,
            hint="convert it with a free first size: --input 'NAME:TYPE[batch, ...]'",
        )
    return 1 if first == 1 else batch_size
