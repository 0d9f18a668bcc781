"""Helpers that are printed by their use: what a file does not give is not there, and what it gives does the same."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from dlbridge.frameworks.pytorch import helpers
from dlbridge.source import printing
from dlbridge.source.code import expression
from dlbridge.source.statements import Do
from dlbridge.source.trimming import trimmed

torch.manual_seed(0)
GIVEN = {
    "mask": torch.rand(2, 1, 5, 5) > 0.4,
    "heads": (2, 2),
    "is_causal": True,
    "scale": 0.3,
    "softcap": 2.0,
}


def loaded(texts, name):
    space = {"torch": torch, "F": F}
    exec("\n\n\n".join(texts.values()), space)
    return space[name]


@pytest.mark.parametrize("options", [names for n in range(6) for names in itertools.combinations(GIVEN, n)])
def test_the_same_numbers_as_the_whole_helper(options):
    whole = printing.helpers(helpers, ["attention"])
    call = "attention(q, k, v" + "".join(f", {name}={name}" for name in options) + ")"
    parts = [Do(expression(call))]
    shorter = printing.by_use(helpers, whole, parts)
    head = shorter["attention"].splitlines()[0]
    assert all((f"{name}=" in head) == (name in options) for name in GIVEN)
    assert ("masked_softmax" in shorter) == ("mask" in options)
    shape = (2, 5, 8) if "heads" in options else (2, 2, 5, 4)
    q, k, v = (torch.randn(shape) for _ in range(3))
    chosen = {name: GIVEN[name] for name in options}
    results = [loaded(texts, "attention")(q, k, v, **chosen) for texts in (whole, shorter)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


WHOLE = '''def f(x, a=None, b=False, c=None, d=1):
    """Of x."""
    # what a is for
    if a is not None:
        x = x + a
    if not b:
        x = x * 2
    else:
        x = x * 3
    y = g(x, a) if c else x
    return y + d
'''


def test_what_no_call_gives_is_left_out():
    def found(*calls):
        return trimmed({"f": WHOLE}, [Do(expression(call)) for call in calls], frozenset({"f"}))["f"]

    assert found("f(x)") == 'def f(x, d=1):\n    """Of x."""\n    x = x * 2\n    y = x\n    return y + d'
    assert "a=None" in found("f(x, 1)") and "b=False" not in found("f(x, 1)")
    assert "a=None, b=False" in found("f(x, 1, True)", "f(x)")
    assert "c=None" in found("f(x, c=1)")
    for opaque in ("map(f, x)", "f(*x)"):
        assert found(opaque) == WHOLE
    assert trimmed({"f": WHOLE}, [Do(expression("f(x)"))], frozenset())["f"] == WHOLE


def test_a_parameter_that_is_read_for_its_value_stays():
    text = "def f(x, a=None):\n    return g(x, a)\n"
    assert trimmed({"f": text}, [Do(expression("f(x)"))], frozenset({"f"}))["f"] == text


def test_what_one_helper_no_longer_gives_another_is_left_out_too():
    texts = {
        "f": "def f(x, a=None):\n    if a is not None:\n        x = g(x, b=a)\n    return g(x)\n",
        "g": "def g(x, b=None):\n    return x if b is None else x * b\n",
    }
    found = trimmed(texts, [Do(expression("f(x)"))], frozenset(texts))
    assert found == {"f": "def f(x):\n    return g(x)", "g": "def g(x):\n    return x"}
