"""Compares the outputs of a form of a model with the judge's, and tells rounding from a departure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dlbridge.model import Model
from dlbridge.passes.matching import producer
from dlbridge.verification.departures.departure import Departure
from dlbridge.verification.departures.locate import first_departure
from dlbridge.verification.figures import figures
from dlbridge.verification.forms import Form
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import (
    FACTOR,
    Arrays,
    Finding,
    Tolerance,
    is_float,
    measure,
    mismatch,
    relative_error,
)
from dlbridge.verification.report import Check, Report

#: For how many more sets of inputs the node is looked for where a form departs, and how many numbers these have.
_MORE_SETS_TRACED, _SMALL_SET = 2, 1 << 16
#: How many eps a sum of many numbers may be off in another framework, where a comparison in float64 decides.
_EPS_OF_SUMS = 16.0


class Comparison:
    """Compares the outputs of routes with the judge's."""

    def __init__(
        self,
        model: Model,
        judge: Judge,
        cases: Sequence[Case],
        thorough: bool,
        tolerance: Tolerance | None = None,
    ) -> None:
        self._model, self._judge, self._cases, self._thorough = model, judge, cases, thorough
        self._tolerance = tolerance
        self._sigmoids = {value.name for value in model.outputs if producer(value, "Sigmoid") is not None}

    def checks(self, route: Form, outputs: list[Arrays], report: Report) -> list[Check]:
        """One check for each set of inputs. The node where a departure begins goes into the report."""
        unlike = [mismatch(output, own) for output, own in zip(outputs, self._judge.own, strict=True)]
        if any(unlike):
            first = next(i for i, found in enumerate(unlike) if found)
            report.departures[route.name] = self._departure(route, first, set(unlike[first]))
            return [self._unlike(route.name, i, found) for i, found in enumerate(unlike)]
        findings = self._findings(route, outputs, report)
        if not _all_fit(findings) and self._tolerance is None:
            self._excuse(route, outputs, findings)
        checks = [self._check(route.name, i, found) for i, found in enumerate(findings)]
        for index, check in enumerate(checks):
            judged = self._judge.own[index]
            check.figures = {n: figures(a, judged[n], check.bounds.get(n, 0.0)) for n, a in outputs[index].items()}
            check.message = "; ".join(text for text in (check.message, route.note, *self._constant()) if text)
        failed = [i for i, c in enumerate(checks) if not c.passed and c.decided and not c.ill_conditioned]
        if failed:
            report.departures[route.name] = self._earliest(route, failed, findings, checks)
        return checks

    def _earliest(
        self, route: Form, failed: list[int], findings: list[dict[str, Finding]], checks: Sequence[Check]
    ) -> Departure:
        """The earliest node at which a route departs for some of the inputs. For others its error may be hidden behind
        a mask or a maximum, and come out again later, or be too small to be told from rounding."""
        small = [i for i in failed[1:] if sum(a.size for a in self._cases[i].arrays.values()) <= _SMALL_SET]
        farthest = max(small, key=lambda i: checks[i].excess, default=failed[0])
        wanted = dict.fromkeys([failed[0], *small[:_MORE_SETS_TRACED], farthest])
        found = [self._departure(route, i, _departing(findings[i])) for i in wanted]
        places = {node.name: place for place, node in enumerate(self._model.graph)}
        return min(found, key=lambda each: places.get(each.node, len(places)))

    def _findings(self, route: Form, outputs: list[Arrays], report: Report) -> list[dict[str, Finding]]:
        """How far each output is from the judge's, for each set of inputs.

        What agrees with the judge's own run by what its type rounds in any case is not run in float64, unless that was
        asked for, or the form computes in a coarser type.
        """
        everywhere = list(range(len(outputs)))
        if self._tolerance is not None:
            return [self._tolerated(self._tolerance, outputs[i], i) for i in everywhere]
        findings: list[dict[str, Finding]] = [{} for _ in outputs]
        wanted = everywhere
        if not self._thorough and not route.eps:
            findings = self._measured(outputs, everywhere, exact=False)
            wanted = [i for i in everywhere if not _all_fit([findings[i]])]
        if not wanted:
            return findings
        is_exact = all(self._judge.exact(i) is not None for i in wanted)
        if is_exact:
            report.precision = "float64"
        elif self._judge.trouble:
            report.precision = f"its own types; in float64 it cannot be run: {self._judge.trouble}"
        measured = self._measured(outputs, wanted, exact=is_exact, size=route.eps)
        for index, found in zip(wanted, measured, strict=True):
            findings[index] = found
        return findings

    def _tolerated(self, tolerance: Tolerance, outputs: Arrays, index: int) -> dict[str, Finding]:
        own = self._judge.own[index]
        judged = (self._judge.exact(index) if self._thorough else None) or own
        return {name: tolerance.measure(array, judged[name], own[name]) for name, array in outputs.items()}

    def _unlike(self, name: str, index: int, found: Mapping[str, str]) -> Check:
        message = "; ".join(f"output '{output}' {what}" for output, what in sorted(found.items()))
        case = self._cases[index]
        return Check(name, case.sizes, {}, 0.0, not found, message, inputs=case.name)

    def _measured(
        self, outputs: list[Arrays], wanted: Sequence[int], *, exact: bool, size: float = 0.0
    ) -> list[dict[str, Finding]]:
        """How far each output is from the judge's, in float64 or in its own types, for some sets of inputs.

        Args:
            outputs: The outputs of a form, for all sets.
            wanted: The sets.
            exact: Whether they are compared with the judge in float64.
            size: The eps of the form's types, where they are coarser than the judge's own.
        """
        own = [self._own(i, size) for i in wanted]
        judged = [wide for i in wanted if (wide := self._judge.exact(i)) is not None] if exact else own
        found: list[dict[str, Finding]] = [{} for _ in wanted]
        for name in outputs[0]:
            measured = measure(
                [outputs[i][name] for i in wanted],
                [one[name] for one in judged],
                [one[name] for one in own] if exact else None,
                replace(self._judge.allowance(size), of_one=name in self._sigmoids),
            )
            for each, finding in zip(found, measured, strict=True):
                each[name] = finding
        return found

    def _own(self, index: int, size: float) -> Arrays:
        """The judge's outputs with the rounding of its own types, or of coarser ones."""
        rounded = self._judge.noisy(index, size) if size else None
        return self._judge.own[index] if rounded is None else rounded

    def _constant(self) -> list[str]:
        """A note for each output that has the same value for every input: that it agrees shows nothing."""
        found = []
        for name, first in self._judge.own[0].items():
            if first.size and all((one[name] == first.flat[0]).all() for one in self._judge.own):
                found.append(f"output '{name}' is {first.flat[0]} for every input, so it shows nothing")
        return found

    # --- ill-conditioned outputs --------------------------------------------------------------------------------------

    def _excuse(self, route: Form, outputs: list[Arrays], findings: list[dict[str, Finding]]) -> None:
        """Compare ill-conditioned outputs in float64, because rounding alone could explain how far they are off.

        An output is ill-conditioned if the judge's own rounding is more than its type and the depth explain, or if
        rounding, or noise of that size, moves the judge as far as the output departs. Such an output, and one that is
        only a little beyond its bound, passes if the written form computes the judge's numbers in float64, and the
        check says so. It does not pass if it cannot be run in float64, departs there too, or has infinities or NaN that
        the judge has not.
        """
        failed = [(i, n) for i, found in enumerate(findings) for n, f in found.items() if not f.fits]
        failed = self._not_cleared(route, failed, findings)
        if not failed:
            return
        strained = {
            (i, n) for i, n in failed if self._is_ill_conditioned(findings[i][n], outputs[i][n], i, n, route.eps)
        }
        wrong = [key for key in failed if key not in strained and not self._may_be_rounding(key, outputs, findings)]
        for i, name in wrong:  # infinities beside the judge's numbers, for one, however far its own rounding is off
            findings[i][name].strained = False
        if wrong:
            return
        wide, trouble = self._in_float64(route, sorted({i for i, _ in failed}))
        for i, name in failed:
            finding, is_strained = findings[i][name], (i, name) in strained
            finding.strained = is_strained
            exact = self._judge.exact(i)
            if i not in wide or exact is None:
                if is_strained:
                    why = f"{_size(finding)}, and rounding alone moves the judge as far{trouble}"
                    finding.message = f"ill-conditioned: {why}"
                continue
            if _agree_in_float64(wide[i][name], exact[name], self._judge.own[i][name]):
                kind = "ill-conditioned: " if is_strained else ""
                finding.excused = f"{kind}{_size(finding)} is rounding; the same in float64"
            elif getattr(route, "folds", False) and self._is_noise(wide[i][name], i, name, finding.bound):
                finding.excused = f"{_size(finding)} is rounding; in float64 no more than that of folded constants"
            elif is_strained and self._is_moved(wide[i][name], i, name):
                finding.message = f"ill-conditioned: {_size(finding)}, and so is what rounding of constants alone moves"
            else:
                finding.strained = False
                finding.message = f"{_size(finding)}, and it departs in float64 too"

    def _not_cleared(
        self, route: Form, failed: list[tuple[int, str]], findings: list[dict[str, Finding]]
    ) -> list[tuple[int, str]]:
        """The outputs that are left when those a little beyond their bounds pass that are the same in float64.

        This comes first: what rounding moves, which takes further runs of the judge, is then not asked of them.
        """
        near = [(i, n) for i, n in failed if findings[i][n].is_near]
        wide, _ = self._in_float64(route, sorted({i for i, _ in near})) if near else ({}, "")
        for i, name in near:
            finding, exact = findings[i][name], self._judge.exact(i)
            if i not in wide or exact is None:
                continue
            if _agree_in_float64(wide[i][name], exact[name], self._judge.own[i][name]):
                kind = "ill-conditioned: " if finding.strained else ""
                finding.excused = f"{kind}{_size(finding)} is rounding; the same in float64"
        return [(i, n) for i, n in failed if not findings[i][n].excused]

    def _may_be_rounding(self, key: tuple[int, str], outputs: list[Arrays], findings: list[dict[str, Finding]]) -> bool:
        """Whether rounding may explain an output: it is little beyond its bound, or no further off than errors of a few
        eps in each sum would move the judge.

        A normalization of equal numbers divides the rounding of their mean by the root of its epsilon, and frameworks
        sum in other orders. Integers that are rounded from floats are others where these are almost halves.
        """
        index, name = key
        finding = findings[index][name]
        if finding.is_near:
            return True
        rounded = _EPS_OF_SUMS * self._judge.allowance().eps
        is_settled = is_float(outputs[index][name].dtype) and not np.isfinite(finding.error)
        return not is_settled and self._is_moved(outputs[index][name], index, name, rounded)

    def _in_float64(self, route: Form, wanted: Sequence[int]) -> tuple[dict[int, Arrays], str]:
        """The outputs of a route in float64, by set of inputs, and why there are none."""
        if any(self._judge.exact(i) is None for i in wanted):
            return {}, ""
        try:
            found = route.exact([self._cases[i].arrays for i in wanted])
        except Exception as error:  # then it stays undecided, and the message says so
            return {}, f"; in float64 it cannot be run ({type(error).__name__}: {error})"
        return ({} if found is None else dict(zip(wanted, found, strict=True))), ""

    def _is_ill_conditioned(self, finding: Finding, output: np.ndarray, index: int, name: str, size: float) -> bool:
        if is_float(output.dtype) and not np.isfinite(finding.error):
            return False
        return finding.strained or self._is_moved(output, index, name, size)

    def _is_moved(self, output: np.ndarray, index: int, name: str, size: float = 0.0) -> bool:
        """Whether the judge's own rounding, or noise of that size, moves an output as far as it departs."""
        exact = self._judge.exact(index)
        if exact is None:
            return False
        right, own = exact[name], self._judge.own[index][name]
        noisy = self._judge.noisy(index, size)
        moved = [own, *([noisy[name]] if noisy is not None else [])]
        if not is_float(output.dtype):
            steady = np.logical_and.reduce([right == m for m in moved])
            return not bool((steady & (output != right)).any())
        distance = _distance(output, right)
        return distance <= FACTOR * max(_distance(m, right) for m in moved)

    def _is_noise(self, wide: np.ndarray, index: int, name: str, bound: float) -> bool:
        """Whether the error of an output in float64 is within what constants that were rounded once explain, and within
        the bound of the model's own types: a difference that shows in those is a fault, whatever its cause."""
        rounded = _EPS_OF_SUMS * self._judge.allowance().eps
        exact, noisy = self._judge.exact(index), self._judge.noisy(index, rounded)
        if exact is None or noisy is None or not is_float(wide.dtype):
            return False
        return _distance(wide, exact[name]) <= min(bound, FACTOR * _distance(noisy[name], exact[name]))

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
        case = self._cases[index]
        is_strained = bool(told) and all(f.strained for f in told.values())
        return Check(
            name,
            case.sizes,
            errors,
            worst.bound,
            not failed,
            "; ".join(f"output '{output}': {f.excused or f.message or _size(f)}" for output, f in told.items()),
            bounds,
            is_strained,
            inputs=case.name,
            decided=not (failed and is_strained and case.is_probe),
        )

    def _departure(self, route: Form, index: int, outputs: set[str]) -> Departure:
        try:
            return first_departure(self._model, route, self._judge, index, self._cases[index].arrays, outputs)
        except Exception as error:  # the departure is reported in any case; where it begins is extra help
            return Departure(f"the node cannot be named ({type(error).__name__}: {error})")


def _departing(found: Mapping[str, Finding]) -> set[str]:
    """The names of the outputs that depart."""
    return {name for name, finding in found.items() if not finding.fits and not finding.excused}


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
