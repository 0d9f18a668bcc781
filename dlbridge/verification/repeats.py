"""Checks that a form gives the same outputs when it is given the same inputs again.

One that remembers what it was given, or draws random numbers, computes no function of its inputs, even if every output
that was looked at is right. Nor does one that asks how it is run: a route runs them again in another way, if its
framework has several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlbridge.errors import DlbridgeError
from dlbridge.verification.forms import Form
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.measure import Arrays, free, is_float, mismatch, relative_error
from dlbridge.verification.report import Check

#: What is said of the inputs of such a check.
NAME = "the first inputs again"


def check_repeats(form: Form, cases: Sequence[Case], outputs: Sequence[Arrays]) -> list[Check]:
    """Run the first inputs again after all the others; return a failed check if the outputs are not the same.

    Args:
        form: The form, which has run on all of the sets of inputs.
        cases: These sets.
        outputs: What it gave for each.
    """
    if not cases:
        return []
    try:
        unlike = next((what for again in _again(form, cases[0]) if (what := _unlike(again, outputs[0]))), "")
    except DlbridgeError as error:
        return [_failed(form, cases[0], f"the same inputs give an error the second time: {error}")]
    return [_failed(form, cases[0], f"the same inputs give other outputs the second time: {unlike}")] if unlike else []


def _again(form: Form, case: Case) -> Iterable[Arrays]:
    runs = getattr(form, "run_again", None)
    return [form.run(case.arrays)] if runs is None else runs(case.arrays)


def _unlike(again: Arrays, before: Arrays) -> str:
    """What is not the same in two runs; empty if all is."""
    unlike = [f"output '{name}' {what}" for name, what in mismatch(again, before).items()]
    if not unlike:
        errors = {name: relative_error(array, before[name]) for name, array in again.items()}
        allowed = {name: free(array.dtype) if is_float(array.dtype) else 0.0 for name, array in again.items()}
        unlike = [f"output '{name}' by {error:.1e}" for name, error in errors.items() if error > allowed[name]]
    return "; ".join(unlike)


def _failed(form: Form, case: Case, message: str) -> Check:
    return Check(form.name, case.sizes, {}, 0.0, False, message, inputs=NAME)
