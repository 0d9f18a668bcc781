"""Compares every route of a model with its judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.model import Model
from dlbridge.verification import judge as judges
from dlbridge.verification.inputs import batch_dim, random_inputs
from dlbridge.verification.judge import Judge
from dlbridge.verification.locate import first_departure
from dlbridge.verification.measure import FACTOR, Arrays, Finding, is_float, measure, mismatch, relative_error
from dlbridge.verification.report import Check, Report
from dlbridge.verification.routes import Route, known, not_installed, unknown
from dlbridge.verification.sizes import fitting_sizes

__all__ = ["Check", "Report", "relative_error", "verify"]

#: (sizes, arrays by input name)
Case = tuple[dict[str, int], Arrays]


def verify(
    model: Model,
    *,
    routes: Sequence[str] | None = None,
    batch_sizes: Iterable[int] = (1, 2, 7),
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
        batch_sizes: Sizes of the batch to try. A model without a symbolic batch gets as many sets of inputs.
        sizes: Sizes of other symbolic dimensions.
        inputs: Arrays to use in addition to the random ones.
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
    cases, judged = _judged(model, list(batch_sizes), dict(sizes or {}), inputs, seed, judge, wanted)
    report = Report(model.name, judged.name, left_out=left_out)
    results: dict[str, list[Arrays]] = {}
    for name in wanted:
        tell(name)
        try:
            route = Route(model, name, written or {})
            results[name] = [route.run(arrays) for _, arrays in cases]
        except DlbridgeError as error:
            report.failures[name] = str(error)
            continue
        report.checks += _Comparison(model, judged, cases, thorough).checks(route, results[name], report)
    judged.close()
    for a, b in itertools.combinations(results, 2):
        report.pairs[a, b] = max(
            (relative_error(y[k], x[k]) for x, y in zip(results[a], results[b], strict=True) for k in x if k in y),
            default=0.0,
        )
    return report


def _check_known(model: Model, wanted: Sequence[str], written: Mapping[str, Any]) -> None:
    names = known(model)
    for route in wanted:
        if route not in names and route not in written:
            raise unknown(route, model)


def _judged(
    model: Model,
    batch_sizes: Sequence[int],
    sizes: dict[str, int],
    inputs: Mapping[str, np.ndarray] | None,
    seed: int,
    kind: str | None,
    routes: Sequence[str],
) -> tuple[list[Case], Judge]:
    """Make the inputs, and run the judge on them.

    The largest set of random inputs has rows of several magnitudes, unless the judge cannot run on it or its outputs
    are not finite.
    """
    for spread in (True, False):
        cases = _cases(model, batch_sizes, sizes, inputs, seed, spread)
        judge = judges.find(model, [arrays for _, arrays in cases], kind, routes)
        try:
            own = judge.own
        except VerificationError:
            if not spread:
                raise  # a judge that cannot run is an error of its own
            continue
        if all(np.isfinite(a.astype(np.float64)).all() for one in own for a in one.values() if is_float(a.dtype)):
            break
    return cases, judge


def _cases(
    model: Model,
    batch_sizes: Sequence[int],
    sizes: dict[str, int],
    inputs: Mapping[str, np.ndarray] | None,
    seed: int,
    spread: bool,
) -> list[Case]:
    name = batch_dim(model)
    cases: list[Case] = []
    last = len(batch_sizes) - 1
    for position, batch in enumerate(batch_sizes):
        case = {**sizes, **fitting_sizes(model, {name: batch} if name else {}, sizes)}
        wide = spread and position == last > 0
        cases.append((case, random_inputs(model, case, seed=seed + position, spread=wide)))
    if inputs is not None:
        cases.append(({}, {k: np.asarray(v) for k, v in inputs.items()}))
    return cases


class _Comparison:
    """Compares the outputs of routes with the judge's."""

    def __init__(self, model: Model, judge: Judge, cases: Sequence[Case], thorough: bool) -> None:
        self._model, self._judge, self._cases, self._thorough = model, judge, cases, thorough

    def checks(self, route: Route, outputs: list[Arrays], report: Report) -> list[Check]:
        """One check for each set of inputs. The node where a departure begins goes into the report."""
        unlike = [mismatch(output, own) for output, own in zip(outputs, self._judge.own, strict=True)]
        if any(unlike):
            return [self._unlike(route.name, i, found) for i, found in enumerate(unlike)]
        findings = None if self._thorough else self._measured(outputs, exact=False)
        if findings is None or not _all_fit(findings):
            findings = self._measured(outputs, exact=self._judge.exact is not None)
            if self._judge.exact is not None:
                report.precision = "float64"
            elif self._judge.trouble:
                report.precision = f"its own types; in float64 it cannot be run: {self._judge.trouble}"
        if not _all_fit(findings):
            self._excuse(route, outputs, findings)
        checks = [self._check(route.name, i, found) for i, found in enumerate(findings)]
        for check in checks:
            check.message = "; ".join(text for text in (check.message, route.note, *self._constant()) if text)
        failed = [i for i, c in enumerate(checks) if not c.passed and not c.ill_conditioned]
        if failed:
            report.departures[route.name] = self._departure(route, failed[0], findings[failed[0]])
        return checks

    def _unlike(self, name: str, index: int, found: Mapping[str, str]) -> Check:
        message = "; ".join(f"output '{output}' {what}" for output, what in sorted(found.items()))
        return Check(name, self._cases[index][0], {}, 0.0, not found, message)

    def _measured(self, outputs: list[Arrays], *, exact: bool) -> list[dict[str, Finding]]:
        """How far each output is from the judge's, in float64 or in its own types, for each set of inputs."""
        judge = self._judge
        judged = judge.exact if exact else judge.own
        assert judged is not None
        found: list[dict[str, Finding]] = [{} for _ in outputs]
        for name in outputs[0]:
            own = [one[name] for one in judge.own] if exact else None
            measured = measure([o[name] for o in outputs], [j[name] for j in judged], own, judge.allowance)
            for each, finding in zip(found, measured, strict=True):
                each[name] = finding
        return found

    def _constant(self) -> list[str]:
        """A note for each output that has the same value for every input: that it agrees shows nothing."""
        found = []
        for name, first in self._judge.own[0].items():
            if first.size and all((one[name] == first.flat[0]).all() for one in self._judge.own):
                found.append(f"output '{name}' is {first.flat[0]} for every input, so it shows nothing")
        return found

    # --- ill-conditioned outputs --------------------------------------------------------------------------------------

    def _excuse(self, route: Route, outputs: list[Arrays], findings: list[dict[str, Finding]]) -> None:
        """Compare ill-conditioned outputs in float64, because rounding alone could explain how far they are off.

        An output is ill-conditioned if the judge's own rounding is more than its type and the depth explain, or if
        rounding, or noise of that size, moves the judge as far as the output departs. Such an output, and one that is
        only a little beyond its bound, passes if the written form computes the judge's numbers in float64, and the
        check says so. It does not pass if it cannot be run in float64, departs there too, or has infinities or NaN that
        the judge has not.
        """
        failed = [(i, n) for i, found in enumerate(findings) for n, f in found.items() if not f.fits]
        strained = {(i, n) for i, n in failed if self._is_ill_conditioned(findings[i][n], outputs[i][n], i, n)}
        if any(key not in strained and not findings[key[0]][key[1]].is_near for key in failed):
            return  # at least one departure that rounding does not explain
        exact = self._judge.exact
        wide, trouble = None, ""
        try:
            wide = route.exact([self._cases[i][1] for i, _ in failed]) if exact is not None else None
        except Exception as error:  # then it stays undecided, and the message says so
            trouble = f"; in float64 it cannot be run ({type(error).__name__}: {error})"
        for place, (i, name) in enumerate(failed):
            finding, is_strained = findings[i][name], (i, name) in strained
            finding.strained = is_strained
            if wide is None or exact is None:
                if is_strained:
                    why = f"{_size(finding)}, and rounding alone moves the judge as far{trouble}"
                    finding.message = f"ill-conditioned: {why}"
                continue
            if _agree_in_float64(wide[place][name], exact[i][name], self._judge.own[i][name]):
                kind = "ill-conditioned: " if is_strained else ""
                finding.excused = f"{kind}{_size(finding)} is rounding; the same in float64"
            elif is_strained and self._is_moved(wide[place][name], i, name):
                finding.message = f"ill-conditioned: {_size(finding)}, and so is what rounding of constants alone moves"
            else:
                finding.strained = False
                finding.message = f"{_size(finding)}, and it departs in float64 too"

    def _is_ill_conditioned(self, finding: Finding, output: np.ndarray, index: int, name: str) -> bool:
        if is_float(output.dtype) and not np.isfinite(finding.error):
            return False
        return finding.strained or self._is_moved(output, index, name)

    def _is_moved(self, output: np.ndarray, index: int, name: str) -> bool:
        """Whether the judge's own rounding, or noise of that size, moves an output as far as it departs."""
        exact = self._judge.exact
        if exact is None:
            return False
        right, own = exact[index][name], self._judge.own[index][name]
        noisy = self._judge.noisy
        moved = [own, *([noisy[index][name]] if noisy is not None else [])]
        if not is_float(output.dtype):
            steady = np.logical_and.reduce([right == m for m in moved])
            return not bool((steady & (output != right)).any())
        distance = _distance(output, right)
        return distance <= FACTOR * max(_distance(m, right) for m in moved)

    # --- what goes into the report ------------------------------------------------------------------------------------

    def _check(self, name: str, index: int, found: Mapping[str, Finding]) -> Check:
        errors = {output: f.error for output, f in found.items()}
        bounds = {output: f.bound for output, f in found.items()}
        failed = {output: f for output, f in found.items() if not f.fits and not f.excused}
        worst = max(found.values(), key=lambda f: f.error / (f.bound or 1e-300), default=Finding())
        for finding in found.values():
            if finding.fits and finding.strained:
                finding.excused = "ill-conditioned: the judge in its own types is further from itself in float64"
        told = failed or {output: f for output, f in found.items() if f.excused}
        return Check(
            name,
            self._cases[index][0],
            errors,
            worst.bound,
            not failed,
            "; ".join(f"output '{output}': {f.excused or f.message or _size(f)}" for output, f in told.items()),
            bounds,
            bool(told) and all(f.strained for f in told.values()),
        )

    def _departure(self, route: Route, index: int, found: Mapping[str, Finding]) -> str:
        outputs = {name for name, f in found.items() if not f.fits and not f.excused}
        try:
            return first_departure(self._model, route, self._judge, index, self._cases[index][1], outputs)
        except Exception as error:  # the departure is reported in any case; where it begins is extra help
            return f"the node cannot be named ({type(error).__name__}: {error})"


def _all_fit(findings: Iterable[Mapping[str, Finding]]) -> bool:
    return all(f.fits for found in findings for f in found.values())


def _size(finding: Finding) -> str:
    if not np.isfinite(finding.error):
        return finding.message or "infinities or NaN in other places"
    place = f" at {finding.group}" if finding.group else ""
    return f"error {finding.error:.1e}{place}, bound {finding.bound:.0e}"


def _distance(array: np.ndarray, right: np.ndarray) -> float:
    """The largest difference; infinite where infinities or NaN are in other places."""
    return relative_error(array.astype(np.float64), right.astype(np.float64))


def _agree_in_float64(wide: np.ndarray, exact: np.ndarray, own: np.ndarray) -> bool:
    """Whether two forms agree in float64, except for constants that one of them holds in the narrower type."""
    if not is_float(own.dtype):
        return bool(np.array_equal(wide, exact))
    return _distance(wide, exact) <= max(1e-6, _distance(own, exact) / 2)
