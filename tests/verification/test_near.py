"""An output a little beyond its bound passes where float64 shows that only rounding moved it, and nowhere else."""

from types import SimpleNamespace

import numpy as np
import pytest

from dlbridge.verification.comparison import Comparison
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.measure import Allowance
from dlbridge.verification.report import Report

EXACT = np.linspace(0.5, 1.0, 24).reshape(4, 6)
EPS = float(np.finfo(np.float32).eps)


def compared(off: float, off_in_float64: float, noise: float = 0.0, folds: bool = False):
    """The checks of a form that departs by so many times its bound in float32, and so much in float64."""
    right = {"y": EXACT.astype(np.float32)}
    judge = SimpleNamespace(
        own=[right],
        exact=lambda index: {"y": right["y"].astype(np.float64)},
        noisy=lambda index, size=0.0: {"y": EXACT + noise * max(size, EPS)},
        trouble="",
        allowance=lambda size=0.0: Allowance(EPS, 1),
    )
    moved = right["y"].copy()
    moved[2, 3] += off * 64 * EPS
    route = SimpleNamespace(
        name="written", note="", eps=0.0, folds=folds, exact=lambda cases: [{"y": judge.exact(0)["y"] + off_in_float64}]
    )
    report = Report("model", "the original")
    return Comparison(SimpleNamespace(graph=(), outputs=()), judge, [Case({}, {})], True).checks(
        route, [{"y": moved}], report
    )[0]


@pytest.mark.parametrize(
    ("off", "off_in_float64", "passes", "word"),
    [
        (0.5, 1.0, True, ""),
        (2.0, 0.0, True, "is rounding; the same in float64"),
        (2.0, 1e-3, False, "departs in float64 too"),
        (9.0, 0.0, False, "bound"),
    ],
)
def test_only_rounding_that_float64_clears_passes(off, off_in_float64, passes, word):
    check = compared(off, off_in_float64)
    assert check.passed is passes and word in check.message, check.message
    assert not check.ill_conditioned


@pytest.mark.parametrize(
    ("noise", "off_in_float64", "passes", "word"),
    [
        (20.0, 0.0, True, "is rounding; the same in float64"),
        (20.0, 1e-3, False, "departs in float64 too"),
        (5.0, 0.0, False, "bound"),
    ],
)
def test_what_a_few_eps_in_each_sum_move_passes_where_float64_clears_it(noise, off_in_float64, passes, word):
    check = compared(15.0, off_in_float64, noise)
    assert check.passed is passes and word in check.message, check.message
    assert not check.ill_conditioned


@pytest.mark.parametrize(
    ("off", "off_in_float64", "folds", "passes"),
    [
        (2.0, 30 * EPS, True, True),
        (2.0, 30 * EPS, False, False),  # what is written here holds the constants of the model
        (2.0, 300 * EPS, True, False),  # more than its bound in float32, whatever constants explain
        (2.0, 700 * EPS, True, False),
        (15.0, 30 * EPS, True, False),
    ],
)
def test_constants_that_an_exporter_has_rounded_are_rounding_in_float64_too(off, off_in_float64, folds, passes):
    check = compared(off, off_in_float64, noise=10.0, folds=folds)
    assert check.passed is passes, check.message
    assert not passes or "folded constants" in check.message


def test_infinities_are_no_rounding_however_far_the_judges_own_is_off():
    """A narrower type overflows where the model's own rounding is large, too; in float64 nothing of that is seen."""
    own = {"y": (EXACT + 0.3).astype(np.float32)}
    judge = SimpleNamespace(
        own=[own],
        exact=lambda index: {"y": EXACT},
        noisy=lambda index, size=0.0: {"y": EXACT + 0.3},
        trouble="",
        allowance=lambda size=0.0: Allowance(EPS, 1),
    )
    found = own["y"].copy()
    found[2, 3] = np.inf
    route = SimpleNamespace(name="written", note="", eps=0.0, folds=False, exact=lambda cases: [{"y": EXACT}])
    comparison = Comparison(SimpleNamespace(graph=(), outputs=()), judge, [Case({}, {}, is_probe=True)], True)
    check = comparison.checks(route, [{"y": found}], Report("model", "the original"))[0]
    assert not check.passed and check.decided
