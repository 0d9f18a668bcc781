"""Helpers that are printed by their use: what a file does not give is not there, and what it gives does the same."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
import torch.nn.functional as F

from dlbridge.frameworks.pytorch import helpers
from dlbridge.source import printing
from dlbridge.source.condense.trimming import trimmed
from dlbridge.source.tree.code import expression
from dlbridge.source.tree.statements import Do

torch.manual_seed(0)
GIVEN = {
    "mask": torch.rand(2, 1, 5, 5) > 0.4,
    "bias": torch.randn(2, 1, 5, 5),
    "heads": (2, 2),
    "groups": 2,
    "is_causal": True,
    "scale": 0.3,
    "softcap": 2.0,
}


def loaded(texts, name):
    space = {"torch": torch, "F": F}
    exec("\n\n\n".join(texts.values()), space)
    return space[name]


@pytest.mark.parametrize(
    "options", [names for n in range(len(GIVEN) + 1) for names in itertools.combinations(GIVEN, n)]
)
def test_the_same_numbers_as_the_whole_helper(options):
    whole = printing.helpers(helpers, ["attention"])
    call = "attention(q, k, v" + "".join(f", {name}={name}" for name in options) + ")"
    parts = [Do(expression(call))]
    shorter = printing.by_use(helpers, whole, parts)
    head = shorter["attention"].splitlines()[0]
    assert all((name in re.findall(r"\w+", head)) == (name in options) for name in GIVEN)
    assert ("masked_softmax" in shorter) == bool({"mask", "bias"} & {*options})
    assert "None" not in head.partition("is_causal")[0]  # what every call gives is asked for
    kv_heads = 1 if "groups" in options else 2
    shapes = [(2, 5, 4 * n) if "heads" in options else (2, n, 5, 4) for n in (2, kv_heads, kv_heads)]
    q, k, v = map(torch.randn, shapes)
    chosen = {name: GIVEN[name] for name in options}
    if "heads" in options:
        chosen["heads"] = (2, kv_heads)
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
    assert "f(x, a, d=1)" in found("f(x, 1)")
    assert "a=None, b=False" in found("f(x, 1, True)", "f(x)")
    assert "c=None" in found("f(x, c=1)")
    for opaque in ("map(f, x)", "f(*x)"):
        assert found(opaque) == WHOLE
    assert trimmed({"f": WHOLE}, [Do(expression("f(x)"))], frozenset())["f"] == WHOLE


def test_what_every_call_gives_is_asked_for_and_has_no_code_for_none():
    text = (
        "def f(x, a=None, b=None, c=None):\n"
        "    if a is not None:  # a's\n        x = x + a\n"
        "    y = (x if b is None else b) * (1 if a is None and c is None else 2)\n    return y\n"
    )

    def found(*calls):
        return trimmed({"f": text}, [Do(expression(call)) for call in calls], frozenset({"f"}))["f"]

    every = "def f(x, a):\n    x = x + a\n    return x * 2"
    assert found("f(x, a=m)", "f(x, a=n)") == every
    assert found("f(x, m)") == every
    assert found("f(x, b=m)") == "def f(x, b):\n    return b * 1"
    assert "if c is None" in found("f(x, c=m)", "f(x)") and "a is" not in found("f(x, c=m)", "f(x)")
    for unsure in (["f(x, a=m)", "f(x)"], ["f(x, a=None)"], ["f(x, m)", "f(x)"]):
        assert "a is not None" in found(*unsure)


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
