"""Sizes of torch as text: the text computes what sympy's tree does, whatever stands within what."""

import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._sympy.functions import FloorDiv, Max, Min, Mod

from dlbridge.constraints import Expression
from dlbridge.frameworks.pytorch.fx.size_text import words

SYMBOLS = sympy.symbols("a b c", integer=True, positive=True)
LEAVES = st.one_of(st.sampled_from(SYMBOLS), st.integers(1, 9).map(sympy.Integer))


def positive(size):
    """At least 1, so that sympy and torch have one meaning of every division."""
    return Max(sympy.Integer(1), size)


def combined(parts):
    pairs = st.tuples(parts, parts)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]),
        pairs.map(lambda p: positive(p[0] - p[1])),
        pairs.map(lambda p: p[0] * p[1]),
        pairs.map(lambda p: Max(*p)),
        pairs.map(lambda p: Min(*p)),
        pairs.map(lambda p: FloorDiv(p[0], positive(p[1]))),
        pairs.map(lambda p: Mod(p[0], positive(p[1]))),
        parts.map(lambda p: p**2),
    )


SIZES = st.recursive(LEAVES, combined, max_leaves=6)
NUMBERS = st.tuples(*[st.integers(1, 30)] * 3)


def has_words(size):
    """Whether it has no powers that are not written out."""
    return all(power.exp < 5 for power in size.atoms(sympy.Pow))


@settings(max_examples=60)
@given(SIZES.filter(has_words), NUMBERS)
def test_a_size_as_text_is_the_same_number(size, numbers):
    wanted = size.subs(dict(zip(SYMBOLS, numbers, strict=True)))
    found = Expression(words(size))(dict(zip("abc", numbers, strict=True)))
    assert found == int(wanted), words(size)


@settings(max_examples=30)
@given(st.tuples(SIZES, SIZES), NUMBERS)
def test_a_relation_as_text_is_as_true(sides, numbers):
    relation = sympy.Or(sympy.And(sympy.Le(*sides), sympy.Ne(*sides)), sympy.Gt(*sides))
    assume(relation.free_symbols and has_words(relation))
    wanted = relation.subs(dict(zip(SYMBOLS, numbers, strict=True)))
    assert bool(Expression(words(relation))(dict(zip("abc", numbers, strict=True)))) == bool(wanted), words(relation)


@pytest.mark.parametrize("divisor", [lambda m: m * m, lambda m: m + 1, lambda m: m**2])
def test_a_divisor_that_begins_with_a_maximum_is_in_brackets(divisor):
    a, b, _ = SYMBOLS
    size = Mod(7 * a, divisor(Max(a, b)), evaluate=False)
    assert Expression(words(size))({"a": 3, "b": 2}) == 21 % divisor(3)
