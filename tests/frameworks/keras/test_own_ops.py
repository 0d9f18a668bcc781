"""The calls of ``keras.ops`` in Keras' own tests: each is converted as Keras computes it, or refused.

What is refused is listed by name and reason, so that a rule that is lost shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

from tests.helpers.keras_own_judging import NoModelError, Outcome, entries, grouped, judge_calls, ledger, wrong
from tests.helpers.keras_own_tests import OPS, op_calls
from tests.helpers.paths import GOLDEN

REFUSED = GOLDEN / "keras_ops_refused.txt"

#: Tests whose calls have not one right answer, and why.
NO_ANSWER = {
    "test_unique": "whether what is no number equals itself is not said by the standard",
    "test_perspective_transform_bilinear": "Keras solves eight equations in float32, four decimals are its own",
    "test_perspective_transform_float32": "as above",
    "test_argmax_negative_zero": "numbers so small that a processor may take them for zero",
    "test_argmin_negative_zero": "numbers so small that a processor may take them for zero",
}


#: Modules of tests that compute with JAX what they expect.
NEED_JAX = ("ops.math_test", "ops.image_test")


def one_in(count: int) -> Callable[[str], bool]:
    """A choice of tests that stays."""
    return lambda test: zlib.crc32(test.encode()) % count == 0


def few_types(test: str) -> bool:
    """All tests but those of every pair of types, of which there are thousands: some of them."""
    return "NumpyDtypeTest" not in test or one_in(12)(test)


def outcomes(module: str, chosen: Callable[[str], bool]) -> list[Outcome]:
    if module in NEED_JAX:
        pytest.importorskip("jax")
    found = []
    calls = [c for c in op_calls(module, chosen) if c.test.rpartition(".")[2] not in NO_ANSWER]
    for group in grouped(c for c in calls if c.kwargs.get("sorted") is not False).values():
        try:
            found += judge_calls(group)
        except NoModelError:
            continue
    return found


def name_of(outcome: Outcome) -> str:
    return outcome.case.partition("(")[0]


@pytest.mark.parametrize(("module", "count"), (("ops.math_test", 12), ("ops.linalg_test", 8)))
def test_some_operations(module, count):
    found = outcomes(module, one_in(count))
    assert found
    assert not wrong(found)
    assert ledger(found, name_of) <= entries(REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("module", [f"ops.{part}_test" for part in OPS])
def test_operations(module):
    found = outcomes(module, few_types)
    assert found
    assert not wrong(found)
    assert ledger(found, name_of) <= entries(REFUSED)
