"""Rows of a batch run that is done: what the model read, and what was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.batch import output
from dlbridge.batch.rows import reader
from dlbridge.batch.units import Images, Unit, plan
from dlbridge.errors import FileError, require
from dlbridge.runtime.loading import load

#: Rows that are read at a time.
_SIZE = 1024


@dataclass(frozen=True)
class Row:
    """A row of a run.

    Attributes:
        inputs: What the model read, with a first axis of 1.
        outputs: What was written, the same.
        place: The file that it is from, and its number there.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    place: str


def sample(out: str, count: int, seed: int = 0) -> Iterator[Row]:
    """Rows with results, chosen at random from all.

    Args:
        out: The folder of a run that is done.
        count: How many, at most.
        seed: What they are drawn from.

    Raises:
        FileError: When the run is not done, or its data are not what they were.
    """
    folder = Path(out)
    run = output.read_run(folder)
    if run is None or "result" not in run:
        raise FileError("it is no batch run that is done", where=out)
    session = load(run["asked"]["model"], threads=1)
    units = plan(run["asked"]["data"])
    if len(units) != run["parts"]:
        raise FileError("the data are not what they were when it was run", where=out)
    read = reader(units[0], session.inputs, run["keep"])
    goods = [_good(folder, number, unit) for number, unit in enumerate(units)]
    ends = np.cumsum([len(good) for good in goods])
    total = int(ends[-1])
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    for number, unit in enumerate(units):
        begin = int(ends[number]) - len(goods[number])
        places = chosen[(chosen >= begin) & (chosen < ends[number])] - begin
        if len(places):
            yield from _rows(unit, read, goods[number], places, output.part_file(folder, number), session.outputs)


def _good(out: Path, number: int, unit: Unit) -> np.ndarray:
    """The rows of a unit that have a result, in the order of the results."""
    rejected = output.rejected_file(out, number)
    if not rejected.exists():
        return np.arange(unit.rows)
    table = require("pyarrow.parquet", "data").read_table(rejected)
    if isinstance(unit, Images):
        names = {str(Path(unit.folder) / name): row for row, name in enumerate(unit.names)}
        bad = [names[file] for file in table["rejected_file"].to_pylist()]
    else:
        bad = [row - unit.first for row in table["rejected_row"].to_pylist()]
    return np.setdiff1d(np.arange(unit.rows), bad)


def _rows(unit: Unit, read: Any, good: np.ndarray, places: np.ndarray, part: Path, outputs: Any) -> Iterator[Row]:
    written = require("pyarrow.parquet", "data").read_table(part, columns=[port.name for port in outputs])
    wanted = dict(zip(good[places].tolist(), places.tolist(), strict=True))
    first = 0
    for rows in read.read(unit, _SIZE):
        for row in range(len(rows)):
            place = wanted.get(first + row)
            if place is not None:
                file, number = rows.place(row)
                results = {p.name: _array(written[p.name][place].as_py(), p) for p in outputs}
                yield Row(rows.arrays(row, row + 1), results, file if number is None else f"{file}, row {number}")
        first += len(rows)


def _array(value: Any, port: Any) -> np.ndarray:
    return np.array([value], dtype=port.dtype)
