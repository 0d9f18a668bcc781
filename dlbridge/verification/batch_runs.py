"""Verifies what a batch run has written: a sample of its rows, judged by the original."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from dlbridge.errors import VerificationError
from dlbridge.model import Model
from dlbridge.verification import judge as judges
from dlbridge.verification.compare import compare_forms
from dlbridge.verification.comparison import Comparison
from dlbridge.verification.departures.departure import Departure
from dlbridge.verification.inputs.coverage import cover
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.measure import Arrays
from dlbridge.verification.report import Report

#: What reports call the results of a run.
NAME = "batch run"


def verify_run(
    model: Model,
    out: str | os.PathLike[str],
    *,
    rows: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare rows that a batch run has written with what the original computes of the same inputs.

    Args:
        model: The original, as it was read.
        out: The output folder of the run.
        rows: How many rows, chosen at random.
        seed: What they are drawn from.
        progress: Called with the name of each step as it begins.

    Returns:
        The report; ``report.passed`` is False when a row departs by more than rounding explains.

    Raises:
        FileError: When the run is not done, or its data have changed.
        VerificationError: When the run has other inputs or outputs than the model.
    """
    from dlbridge.batch.sample import Row, sample

    tell = progress or (lambda text: None)
    tell("the judge")
    judging = judges.find(model, None, [])
    found = sorted(sample(os.fspath(out), rows, seed), key=_shapes)
    cases: list[Case] = []
    written: list[Arrays] = []
    places: list[list[str]] = []
    for _, group in groupby(found, key=_shapes):
        together: list[Row] = list(group)
        arrays = {n: np.concatenate([row.inputs[n] for row in together]) for n in together[0].inputs}
        _check_names("inputs", list(arrays), [value.name or "" for value in model.ir.graph.inputs])
        cases.append(Case({}, arrays, ("rows of the run",)))
        written.append({n: np.concatenate([row.outputs[n] for row in together]) for n in together[0].outputs})
        places.append([row.place for row in together])
        judging.add(arrays)
    if not cases:
        raise VerificationError("the run has no row with a result", where=os.fspath(out))
    _check_names("outputs", list(written[0]), list(judging.own[0]))
    report = Report(model.name, judging.name, subject=model)
    report.cases = [case.arrays for case in cases]
    comparison = Comparison(model, judging, cases, thorough=True)
    compare_forms(comparison, judging, cases, {NAME: lambda: _Written(cases, written)}, report, progress=tell)
    if NAME in report.departures:
        failed = next(i for i, check in enumerate(report.checks) if not check.passed)
        row = _farthest(written[failed], judging.own[failed])
        report.departures[NAME] = Departure(f"the row that departs most is {places[failed][row]}")
    report.coverage = cover(model, cases, everything=False)
    return report


class _Written:
    """What a run has written, in the place of something that runs."""

    name, eps = NAME, 0.0

    def __init__(self, cases: Sequence[Case], written: Sequence[Arrays]) -> None:
        self._written = {id(case.arrays): outputs for case, outputs in zip(cases, written, strict=True)}
        rows = sum(len(next(iter(outputs.values()))) for outputs in written)
        self.note = f"{rows} rows of the run"

    def run(self, arrays: Arrays) -> Arrays:
        """What was written for a set of inputs."""
        return self._written[id(arrays)]

    def exact(self, cases: Sequence[Arrays], seen: list[np.ndarray] | None = None) -> list[Arrays] | None:
        """Nothing: files are not run again."""
        return None


def _farthest(written: Arrays, judged: Arrays) -> int:
    """The row whose outputs differ most from the judge's."""
    distances = [
        np.abs(np.asarray(array, np.float64) - np.asarray(judged[name], np.float64)).reshape(len(array), -1).max(axis=1)
        for name, array in written.items()
        if array.size
    ]
    return int(np.nanargmax(np.max(distances, axis=0)))


def _shapes(row: object) -> str:
    return str([(name, array.shape) for name, array in row.inputs.items()])  # type: ignore[attr-defined]


def _check_names(what: str, of_run: Sequence[str], of_model: Sequence[str]) -> None:
    if set(of_run) != set(of_model):
        raise VerificationError(
            f"the {what} of the run are {', '.join(of_run)}, those of the model {', '.join(of_model)}",
            hint="judge it by the model that it was converted from",
        )
