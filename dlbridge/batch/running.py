"""``run``: plans a batch run, goes on with one that was stopped, and checks at the end that no row is missing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from dlbridge.batch import output
from dlbridge.batch.job import Done, Job, Worker
from dlbridge.batch.units import Images, Unit, plan
from dlbridge.errors import FileError, require, suggest
from dlbridge.repository.layout import find_model

#: What ``run.json`` looks like.
_FORMAT = 1
#: Where a run can be done, beside this process -> the module whose ``run_units`` does it.
ENGINES = {"ray": "dlbridge.batch.on_ray"}


@dataclass(frozen=True)
class Summary:
    """What a run has done.

    Attributes:
        rows: Rows with results.
        rejected: Rows without; ``rejected/`` in the output has the reasons.
        parts: Files of results.
        found: How many of these an earlier run had left.
        seconds: How long this run took.
    """

    rows: int
    rejected: int
    parts: int
    found: int
    seconds: float


def run(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    keep: Sequence[str] | None = None,
    strict: bool = False,
    providers: Sequence[str] = ("cpu",),
    threads: int | None = None,
    on: str | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Run a model on every row of Parquet files, or on every image of folders, and write the results as Parquet.

    A run that was stopped goes on where it was when it is asked for again. Every row is in the results once, or among
    the rejected rows with its reason.

    Args:
        model: A repository entry or an ``.onnx`` file, whose inputs have a free first axis (or one of size 1).
        data: Parquet files, folders, or patterns of these (``in/*.parquet``). A column goes into the input of its name,
            as for :func:`dlbridge.runtime.run_file`.
        out: The folder of the results.
        batch_size: Rows at a time.
        keep: Columns that go into the results as they are; all that the model does not read when None. Images have
            the column ``path``.
        strict: Whether the first bad row ends the run, in place of being rejected.
        providers: Execution providers, as for :func:`dlbridge.runtime.load`.
        threads: Threads for one op; by the work of a batch when None (on Ray: one).
        on: ``ray`` for workers on Ray; None for this process.
        workers: How many workers.
        force: Replace what is in ``out``.
        progress: Called after each unit with the rows that are done, and those there are.

    Raises:
        FileError: When data are missing or broken, or ``out`` is of another run.
        SignatureError: When the data do not fit the model.
    """
    began = time.monotonic()
    given = [data] if isinstance(data, (str, os.PathLike)) else data
    units = plan([os.fspath(path) for path in given])
    file, folder = find_model(model), Path(out)
    job = Job(str(file), str(folder), units, batch_size, keep, strict, tuple(providers), threads)
    with _alone(folder):
        if force and folder.exists():
            _clear(folder)
        _same_run(folder, _description(file, units, job))
        found = [number for number in range(len(units)) if output.part_file(folder, number).exists()]
        missing = sorted(set(range(len(units))) - set(found))
        done = sum(units[number].rows for number in found)
        total = sum(unit.rows for unit in units)
        for result in _engine(on)(job, missing, workers):
            done += units[result.number].rows
            if progress is not None:
                progress(done, total)
        rows, rejected = _counted(folder, units)
        summary = Summary(rows, rejected, len(units), len(found), time.monotonic() - began)
        asked = {"model": str(file.resolve()), "data": [os.path.abspath(path) for path in given]}
        output.write_run(folder, {**_description(file, units, job), "asked": asked, "result": asdict(summary)})
    return summary


def run_here(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Done]:
    """Run units in this process."""
    worker = Worker(job)  # it also finds out whether the data fit the model, before anything is written
    for number in numbers:
        yield worker.run(number)


def _engine(name: str | None) -> Callable[[Job, Sequence[int], int], Iterator[Done]]:
    if name is None:
        return run_here
    if name not in ENGINES:
        raise FileError(f"nothing runs on '{name}'", hint=suggest(name, ENGINES) or f"known: {', '.join(ENGINES)}")
    return require(ENGINES[name], "scale").run_units  # type: ignore[no-any-return]


# --- one run in one folder --------------------------------------------------------------------------------------------


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run away from a folder, by a lock beside it that is removed at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f".{out.name}.lock"
    is_held = False
    while not is_held:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileError("another run is writing there", where=str(out)) from None
            is_held = _is_at(path, lock)
            if is_held:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still at its path: the run before may have removed it between opening and locking."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _clear(out: Path) -> None:
    """Remove a run's results, and nothing else.

    Raises:
        FileError: When the folder is not of a run.
    """
    if not (out / output.RUN_FILE).is_file():
        raise FileError("it is not the output of a batch run, and is not removed", where=str(out))
    shutil.rmtree(out)


def _same_run(out: Path, description: dict[str, Any]) -> None:
    """Begin a run in a folder, or check that the one that is there is the same.

    Raises:
        FileError: When it is another.
    """
    there = output.read_run(out)
    if there is None:
        output.write_run(out, description)
        return
    for key, value in description.items():
        if there.get(key) != value:
            raise FileError(
                f"a run is there with {_differs(key, there.get(key), value)}",
                where=str(out),
                hint="choose another folder, or pass --force to begin anew",
            )


def _differs(key: str, was: Any, now: Any) -> str:
    if key == "data":
        return "other data, or data that have changed since"
    if key == "model":
        return "another model, or one that has changed since"
    return f"{key.replace('_', ' ')} {was}, not {now}"


def _description(model: Path, units: Sequence[Unit], job: Job) -> dict[str, Any]:
    """What makes a run the same run: its model, its data, and what the rows of the results depend on."""
    paths = {Path(u.folder) / name if isinstance(u, Images) else Path(u.file) for u in units for name in _names(u)}
    seen = hashlib.sha256()
    for path in sorted(paths):
        about = path.stat()
        seen.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return {
        "format": _FORMAT,
        "model": _digest(model),
        "data": seen.hexdigest(),
        "parts": len(units),
        "batch_size": job.batch_size,
        "keep": None if job.keep is None else list(job.keep),
    }


def _names(unit: Unit) -> Sequence[str]:
    return unit.names if isinstance(unit, Images) else ("",)


def _digest(model: Path) -> str:
    """A hash of a model file, and of the files of weights beside it that begin with its name."""
    seen = hashlib.sha256()
    for path in sorted(p for p in model.parent.iterdir() if p.name.startswith(model.name)):
        with path.open("rb") as stream:
            seen.update(hashlib.file_digest(stream, "sha256").digest())
    return seen.hexdigest()


def _counted(out: Path, units: Sequence[Unit]) -> tuple[int, int]:
    """(rows with results, rejected rows), counted in the files.

    Raises:
        FileError: When a part has more or fewer rows than its unit.
    """
    rows = rejected = 0
    for number, unit in enumerate(units):
        good = output.rows_in(output.part_file(out, number))
        bad = output.rows_in(output.rejected_file(out, number))
        if good + bad != unit.rows:
            raise FileError(
                f"it has {good} rows and {bad} rejected ones for {unit.rows} of {unit}",
                where=str(output.part_file(out, number)),
                hint="delete it and run again",
            )
        rows, rejected = rows + good, rejected + bad
    return rows, rejected
