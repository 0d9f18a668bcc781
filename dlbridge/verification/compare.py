"""Compares every route of a model with its judge."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, SignatureError, suggest
from dlbridge.garbage import free_memory
from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator, eps
from dlbridge.passes import precision
from dlbridge.passes.precision import Precision
from dlbridge.verification import judge as judges
from dlbridge.verification import stepping
from dlbridge.verification.comparison import Comparison
from dlbridge.verification.departures.depth import along_depth
from dlbridge.verification.departures.locate import too_large
from dlbridge.verification.forms import Form
from dlbridge.verification.gradients import check_training
from dlbridge.verification.inputs import literals, suspicions
from dlbridge.verification.inputs.arrays import given_inputs
from dlbridge.verification.inputs.battery import Battery
from dlbridge.verification.inputs.coverage import cover
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.inputs.sizes import has_large_weights, require_names
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays, Tolerance, relative_error
from dlbridge.verification.others import Matching, Other
from dlbridge.verification.repeats import check_repeats
from dlbridge.verification.report import Check, Report
from dlbridge.verification.routes import Route, known, left_out, saved_route, unknown, usual
from dlbridge.verification.stepping import Stepping
from dlbridge.verification.weight_check import check_weights

__all__ = ["Check", "Report", "relative_error", "verify"]

#: Which sets of inputs are tried.
Extent = Literal["quick", "full", "none"]


def verify(
    model: Model,
    *,
    routes: Sequence[str] | None = None,
    battery: Extent = "full",
    batch_sizes: Iterable[int] | None = None,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, np.ndarray] | str | os.PathLike[str] | None = None,
    seed: int = 0,
    judge: str | None = None,
    written: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
    matching: Matching | None = None,
    dtype: Precision | None = None,
    tolerance: Tolerance | None = None,
    train_steps: int | None = None,
    thorough: bool = True,
    by_node: bool = False,
    spread: Callable[[Model, Mapping[str, Callable[[], Form]], Sequence[Arrays]], Mapping[str, Callable[[], Form]]]
    | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run a model by every route on the same inputs, and compare each with the judge.

    The judge is the original in float64 or, for a model that was not read from anything that runs, the standard's
    reference evaluator. The allowed rounding is measured on the judge's own run in the types in use.

    Args:
        model: The model.
        routes: Names of frameworks, ``"onnx via ..."`` for a framework's own export, and ``"original"`` for a model
            that was read from one. When None, all of the frameworks that are installed; the report says which are not.
            With ``others``, none.
        battery: ``"quick"`` for three sets of inputs, ``"full"`` for all that ``inputs.battery`` has,
            ``"none"`` for the given inputs alone.
        batch_sizes: Sizes of the batch to try; 1, 2 and 9 when None. A model without a symbolic batch gets as many
            sets of inputs.
        sizes: Sizes of other symbolic dimensions.
        inputs: Arrays, or an ``.npz`` file of them, to use in addition to those of the battery.
        seed: Seed of the random inputs.
        judge: ``"original"``, or ``"reference"`` for the reference evaluator; when None, the original if there is one.
        written: Framework -> the ``Source`` to verify; other frameworks write the model anew.
        others: Name -> another model that should compute the same: a ``Model``, which is run as what it was read from,
            a ``Source``, or the folder that a source was saved to.
        matching: How the inputs and outputs of others are matched with the model's.
        dtype: Verify the model with its float32 as this type.
        tolerance: Bounds of the caller, instead of those that are measured on the judge.
        train_steps: Compare gradients, and the weights after so many steps of training, in all frameworks that train;
            0 for gradients alone, None for neither.
        thorough: Always run the judge in float64. Otherwise it is run so only if a route differs from the judge's own
            run by more than its type rounds in any case, which saves the run in float64 of a big model.
        by_node: Measure the error of each node along the depth, too, for the first set of inputs: a page shows it.
        spread: Has the routes run elsewhere, all at once (``dlbridge.verification.on_ray.spread``).
        progress: Called with the name of each step as it begins.

    Returns:
        The report. If a route departs or cannot run, ``report.passed`` is False and the report says why.

    Raises:
        DlbridgeError: When the judge cannot run, or a route is unknown.
    """
    if battery not in get_args(Extent):
        hint = suggest(battery, get_args(Extent)) or f"known: {', '.join(get_args(Extent))}"
        raise DlbridgeError(f"no battery '{battery}'", hint=hint)
    if routes is None and others:
        routes = []
    not_tried = left_out(model) if routes is None else {}
    wanted = [name for name in usual(model) if name not in not_tried] if routes is None else list(routes)
    _check_known(model, wanted, written or {})
    tell = progress or (lambda text: None)
    tell("the judge")
    judging = judges.find(model, judge, wanted)
    if dtype is not None:
        converted = precision.convert(model, dtype)
        judging = judges.of_another_type(model, converted, eps(ml_dtypes.finfo(dtype).dtype))
        model, wanted = converted, [name for name in wanted if name != judges.ORIGINAL]
    require_names(model, sizes or {})
    _check_others(model, others or {}, matching or Matching(), dtype)
    numbers = literals.numbers_of((others or {}).values())
    unlike = suspicions.unlike_rows(model, (others or {}).values()) if battery == "full" else {}
    sets = Battery(model, dict(sizes or {}), list(batch_sizes or ()) or None, seed, battery == "full", numbers, unlike)
    cases = [] if battery == "none" else sets.cases(judging)
    cases += _given(model, judging, inputs)
    report = Report(model.name, judging.name, left_out=not_tried, inputs_left_out=sets.left_out, subject=model)
    report.cases = [case.arrays for case in cases]
    builders = {name: _builder(model, name, written or {}) for name in wanted}
    if spread is not None:
        if dtype is not None or written:
            raise DlbridgeError(
                "routes run elsewhere on the model as it is read: neither in another type nor as written"
            )
        builders = dict(spread(model, builders, report.cases))
    builders |= {name: _other(model, name, other, matching or Matching()) for name, other in (others or {}).items()}
    comparison = Comparison(model, judging, cases, thorough, tolerance)
    steps = stepping.of(model, judging, thorough, seed) if battery != "none" else None
    compare_forms(comparison, judging, cases, builders, report, progress=tell, by_node=by_node, steps=steps)
    if train_steps is not None:
        tell("training")
        report.training, report.curves = check_training(model, steps=train_steps, seed=seed)
    tell("coverage")
    report.coverage = cover(model, cases, everything=battery == "full")
    return report


def _check_others(model: Model, others: Mapping[str, Any], matching: Matching, dtype: Precision | None) -> None:
    """Refuse what would be left out without a word, or fail where nobody sees why.

    Raises:
        SignatureError: When a name to match is none of the model's, or there is no other model to match it with.
        DlbridgeError: When what was written in some types is to be run in others.
    """
    names = [value.name or "" for value in (*model.inputs, *model.outputs)]
    asked = [name for name in (*matching.names, *matching.layouts) if name]
    for name in asked:
        if name not in names:
            raise SignatureError(
                f"there is no input or output '{name}' to match",
                where=model.name,
                hint=suggest(name, names) or f"it has {', '.join(names)}",
            )
    if (matching.names or matching.layouts) and not any(isinstance(other, Model) for other in others.values()):
        raise SignatureError(
            "there is no other model whose names and layouts could be matched",
            where=model.name,
            hint="what was written of a model has its names",
        )
    written = [name for name, other in others.items() if not isinstance(other, Model)]
    if dtype is not None and written:
        raise DlbridgeError(
            f"'{written[0]}' is run in the types that it was written in, not in {dtype}",
            hint="leave out the dtype, or verify the model alone: it is written anew in that type",
        )


def _builder(model: Model, name: str, written: Mapping[str, Any]) -> Callable[[], Form]:
    return lambda: Route(model, name, written)


def _other(model: Model, name: str, other: Any, matching: Matching) -> Callable[[], Form]:
    if isinstance(other, Model):
        form = Other(model, other, name, matching)  # at once: a name that matches nothing is the caller's mistake
        return lambda: form
    if isinstance(other, Path):
        return lambda: saved_route(model, name, other)
    framework = frameworks.get(other.framework)
    return lambda: Route(model, framework.name, {framework.name: other}, title=name)


def _check_known(model: Model, wanted: Sequence[str], written: Mapping[str, Any]) -> None:
    names = known(model)
    for route in wanted:
        if route not in names and route not in written:
            raise unknown(route, model)


def _given(model: Model, judge: Judge, inputs: Mapping[str, np.ndarray] | str | os.PathLike[str] | None) -> list[Case]:
    """The arrays of the caller as a set of inputs."""
    if inputs is None:
        return []
    arrays = given_inputs(model, inputs)
    judge.add(arrays)
    return [Case({}, arrays, ("given",))]


def compare_forms(
    comparison: Comparison,
    judge: Judge,
    cases: Sequence[Case],
    builders: Mapping[str, Callable[[], Form]],
    report: Report,
    *,
    progress: Callable[[str], None],
    by_node: bool = False,
    steps: Stepping | None = None,
) -> None:
    """Build each form of a model, run it on the sets of inputs that the judge has run on, and put what is found into
    the report. The forms are built one after the other, so that only one is in memory beside the judge."""
    results: dict[str, list[Arrays]] = {}
    depth = _Depth(report, cases) if by_node else None
    is_large = report.subject is not None and has_large_weights(report.subject)
    for name, build in builders.items():
        progress(name)
        try:
            form = build()
            results[name] = [_run(form, case) for case in cases]
        except DlbridgeError as error:
            report.failures[name] = str(error)
            continue
        report.checks += comparison.checks(form, results[name], report)
        report.checks += check_repeats(form, cases, results[name])
        if report.subject is not None:
            report.checks += check_weights(report.subject, form, report)
        if steps is not None:
            report.checks += steps.checks(form, report)
        if depth is not None:
            depth.measure(name, form)
        del form  # before the next one is built
        if is_large:
            free_memory()
    if steps is not None:
        steps.close()
    judge.close()
    for a, b in itertools.combinations(results, 2):
        report.pairs[a, b] = max(
            (relative_error(y[k], x[k]) for x, y in zip(results[a], results[b], strict=True) for k in x if k in y),
            default=0.0,
        )


class _Depth:
    """Measures the error of each node of forms, for the first set of inputs."""

    def __init__(self, report: Report, cases: Sequence[Case]) -> None:
        self._report = report
        self._right: Arrays | None = None
        self._model = report.subject
        self._arrays = cases[0].arrays if cases else None

    def measure(self, name: str, form: Form) -> None:
        """Put the errors of a form into the report, where they can be measured."""
        if self._model is None or self._arrays is None:
            return
        why = too_large(self._model, self._arrays)
        if why:
            self._report.without_depth[name] = why
            return
        try:
            if self._right is None:
                self._right = Evaluator(self._model.ir).values(self._arrays)
            found = along_depth(self._model, form, self._arrays, self._right)
        except Exception as error:  # the verdict is there in any case; the picture is extra help
            self._report.without_depth[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        if found:
            self._report.depth[name] = found


def _run(form: Form, case: Case) -> Arrays:
    """The outputs for a set of inputs; an error says for which, if they are not plain numbers."""
    try:
        return form.run(case.arrays)
    except DlbridgeError as error:
        if case.is_probe:
            sizes = ", ".join(f"{name}={size}" for name, size in case.sizes.items())
            error.message += f" (inputs: {case.name}{f' at {sizes}' if sizes else ''})"
        raise
