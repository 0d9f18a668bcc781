"""Ops that compute each element from elements at the same place: arithmetic, comparisons, logic."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.matching import Match
from dlbridge.passes.predicates.following import INTEGERS, Predicates, operands, term_of, type_of
from dlbridge.passes.predicates.terms import (
    FALSE,
    TRUE,
    Affine,
    IsTrue,
    Read,
    Term,
    as_predicate,
    at_least_zero,
    both,
    either,
    negation,
    number,
    same,
)


def _two(known: Predicates, node: Match) -> tuple[Affine, Affine] | None:
    found = operands(known, node)
    if found is None or len(found) != 2:
        return None
    a, b = found
    return (a, b) if isinstance(a, Affine) and isinstance(b, Affine) else None


@term_of("Range")
def _range(known: Predicates, node: Match) -> Term | None:
    start, step = known.sizes.get(node.input(0)), known.sizes.numbers(node.input(2))
    if start is None or start.size != 1 or step is None:
        return None
    first = start.reshape(-1)[0]
    return None if first is None else Affine.of({0: step[0]}, first)


@term_of("Add", "Sub")
def _added(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    return None if two is None else two[0].plus(two[1], -1 if node.is_op("Sub") else 1)


@term_of("Neg")
def _negative(known: Predicates, node: Match) -> Term | None:
    term = known.affine(node.input(0))
    return None if term is None else number(0).plus(term, -1)


@term_of("Mul")
def _times(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    for one, other in (two, two[::-1]) if two is not None else ():
        factor = other.number
        if factor is not None:
            return number(0).plus(one, factor)
    return None


@term_of("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def _compared(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    if two is None:
        return None
    less, more = two if node.is_op("Less", "LessOrEqual") else two[::-1]
    difference = more.plus(less, -1)
    return at_least_zero(difference if node.is_op("LessOrEqual", "GreaterOrEqual") else difference.plus(number(-1)))


@term_of("Equal")
def _equal(known: Predicates, node: Match) -> Term | None:
    found = operands(known, node)
    if found is None or len(found) != 2 or type_of(node.input(0)) not in INTEGERS:
        return None
    a, b = found
    for read, other in ((a, b), (b, a)):
        if isinstance(read, Read) and isinstance(other, Affine) and other.number == 0:
            return negation(IsTrue(read))
    return same(a, b)


@term_of("And")
def _all_of(known: Predicates, node: Match) -> Term | None:
    found = operands(known, node)
    return None if found is None else both([as_predicate(term) for term in found])


@term_of("Or")
def _one_of(known: Predicates, node: Match) -> Term | None:
    found = operands(known, node)
    return None if found is None else either([as_predicate(term) for term in found])


@term_of("Not")
def _denied(known: Predicates, node: Match) -> Term | None:
    term = known.predicate(node.input(0))
    return None if term is None else negation(term)


@term_of("Where")
def _chosen(known: Predicates, node: Match) -> Term | None:
    """Where of booleans: ``c and a, or not c and b``."""
    if type_of(node.input(1)) != ir.DataType.BOOL:
        return None
    found = operands(known, node)
    if found is None:
        return None
    condition, a, b = (as_predicate(term) for term in found)
    return either([both([condition, a]), both([negation(condition), b])])


@term_of("Cast")
def _cast(known: Predicates, node: Match) -> Term | None:
    """Between integers, a number stays; an integer is true where it is not 0; of a boolean, constants alone."""
    term, was, becomes = known.get(node.input(0)), type_of(node.input(0)), node.output.dtype
    if term is None:
        return None
    if was == becomes or (was in INTEGERS and becomes in INTEGERS):
        return term
    if becomes == ir.DataType.BOOL:
        return _is_not_zero(term, node.operand(0))
    if term in (TRUE, FALSE) and becomes in INTEGERS:
        return number(1 if term == TRUE else 0)
    return None


def _is_not_zero(term: Term, value: ir.Value) -> Term | None:
    """Whether the integer is not 0. Of a value that was not followed, None: its cast is another such value."""
    if isinstance(term, Affine):
        return negation(same(term, number(0)))
    return IsTrue(term) if isinstance(term, Read) and term.value is not value else None
