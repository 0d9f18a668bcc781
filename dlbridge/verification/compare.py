"""Compares every route of a model with its judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.verification import judge as judges
from dlbridge.verification.battery import Battery, Case
from dlbridge.verification.comparison import Comparison
from dlbridge.verification.coverage import cover
from dlbridge.verification.forms import Form
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays, relative_error
from dlbridge.verification.report import Check, Report
from dlbridge.verification.routes import Route, known, not_installed, unknown

__all__ = ["Check", "Report", "relative_error", "verify"]


def verify(
    model: Model,
    *,
    routes: Sequence[str] | None = None,
    battery: Literal["quick", "full"] = "full",
    batch_sizes: Iterable[int] | None = None,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    judge: str | None = None,
    written: Mapping[str, Any] | None = None,
    thorough: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run a model by every route on the same inputs, and compare each with the judge.

    The judge is the original in float64 or, for a model that was not read from anything that runs, the standard's
    reference evaluator. The allowed rounding is measured on the judge's own run in the types in use.

    Args:
        model: The model.
        routes: Names of frameworks, ``"onnx via ..."`` for a framework's own export, and ``"original"`` for a model
            that was read from one. When None, all of the frameworks that are installed; the report says which are not.
        battery: ``"quick"`` for three sets of inputs, ``"full"`` for all that ``dlbridge.verification.battery`` has.
        batch_sizes: Sizes of the batch to try; 1, 2 and 9 when None. A model without a symbolic batch gets as many
            sets of inputs.
        sizes: Sizes of other symbolic dimensions.
        inputs: Arrays to use in addition to those of the battery.
        seed: Seed of the random inputs.
        judge: ``"original"``, or ``"reference"`` for the reference evaluator; when None, the original if there is one.
        written: Framework -> the ``Source`` to verify; other frameworks write the model anew.
        thorough: Always run the judge in float64. Otherwise it is run so only if a route differs from the judge's own
            run by more than its type rounds in any case, which saves the run in float64 of a big model.
        progress: Called with the name of each step as it begins.

    Returns:
        The report. If a route departs or cannot run, ``report.passed`` is False and the report says why.

    Raises:
        DlbridgeError: When the judge cannot run, or a route is unknown.
    """
    left_out = not_installed(known(model)) if routes is None else {}
    wanted = [name for name in known(model) if name not in left_out] if routes is None else list(routes)
    _check_known(model, wanted, written or {})
    tell = progress or (lambda text: None)
    tell("the judge")
    judging = judges.find(model, judge, wanted)
    sets = Battery(model, dict(sizes or {}), list(batch_sizes or ()) or None, seed, full=battery == "full")
    cases = [*sets.cases(judging), *_given(judging, inputs)]
    report = Report(model.name, judging.name, left_out=left_out, inputs_left_out=sets.left_out)
    builders = {name: _builder(model, name, written or {}) for name in wanted}
    compare_forms(model, judging, cases, builders, report, thorough=thorough, progress=tell)
    tell("coverage")
    report.coverage = cover(model, cases, everything=battery == "full")
    return report


def _builder(model: Model, name: str, written: Mapping[str, Any]) -> Callable[[], Form]:
    return lambda: Route(model, name, written)


def _check_known(model: Model, wanted: Sequence[str], written: Mapping[str, Any]) -> None:
    names = known(model)
    for route in wanted:
        if route not in names and route not in written:
            raise unknown(route, model)


def _given(judge: Judge, inputs: Mapping[str, np.ndarray] | None) -> list[Case]:
    """The arrays of the caller as a set of inputs."""
    if inputs is None:
        return []
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    judge.add(arrays)
    return [Case({}, arrays, ("given",))]


def compare_forms(
    model: Model,
    judge: Judge,
    cases: Sequence[Case],
    builders: Mapping[str, Callable[[], Form]],
    report: Report,
    *,
    thorough: bool,
    progress: Callable[[str], None],
) -> None:
    """Build each form of a model, run it on the sets of inputs that the judge has run on, and put what is found into
    the report. The forms are built one after the other, so that only one is in memory beside the judge."""
    results: dict[str, list[Arrays]] = {}
    comparison = Comparison(model, judge, cases, thorough)
    for name, build in builders.items():
        progress(name)
        try:
            form = build()
            results[name] = [_run(form, case) for case in cases]
        except DlbridgeError as error:
            report.failures[name] = str(error)
            continue
        report.checks += comparison.checks(form, results[name], report)
    judge.close()
    for a, b in itertools.combinations(results, 2):
        report.pairs[a, b] = max(
            (relative_error(y[k], x[k]) for x, y in zip(results[a], results[b], strict=True) for k in x if k in y),
            default=0.0,
        )


def _run(form: Form, case: Case) -> Arrays:
    """The outputs for a set of inputs; an error says for which, if they are not plain numbers."""
    try:
        return form.run(case.arrays)
    except DlbridgeError as error:
        if case.is_probe:
            sizes = ", ".join(f"{name}={size}" for name, size in case.sizes.items())
            error.message += f" (inputs: {case.name}{f' at {sizes}' if sizes else ''})"
        raise
