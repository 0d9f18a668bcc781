"""The terms: formulas in the indices of axes, and conditions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from dlbridge.passes.sizes import Size

ZERO, ONE = Size.of(0), Size.of(1)


@dataclass(frozen=True)
class Affine:
    """A sum of indices: ``slopes[axis] * index of that axis + offset``."""

    slopes: tuple[tuple[int, int], ...]
    offset: Size

    @classmethod
    def of(cls, slopes: Mapping[int, int], offset: Size) -> Affine:
        return cls(tuple(sorted((axis, slope) for axis, slope in slopes.items() if slope)), offset)

    @property
    def never_negative(self) -> bool:
        return all(slope > 0 for _, slope in self.slopes) and all(c > 0 for c in self.offset.terms.values())

    @property
    def number(self) -> int | None:
        """The number, where it depends on nothing."""
        return None if self.slopes else self.offset.number

    def plus(self, other: Affine, factor: int = 1) -> Affine:
        slopes = dict(self.slopes)
        for axis, slope in other.slopes:
            slopes[axis] = slopes.get(axis, 0) + factor * slope
        return Affine.of(slopes, self.offset + Size.of(factor) * other.offset)


@dataclass(frozen=True)
class Read:
    """The element of a tensor at a place; ``at`` has its axes in their order, from the first."""

    value: ir.Value
    at: tuple[Affine, ...]


@dataclass(frozen=True)
class IsTrue:
    """Whether an integer that is read is not 0."""

    of: Read


@dataclass(frozen=True)
class AtLeastZero:
    """``of >= 0``."""

    of: Affine


@dataclass(frozen=True)
class Same:
    """Whether two integers are equal."""

    terms: frozenset[Affine | Read]


@dataclass(frozen=True)
class All:
    """All of these hold; of no parts, it is true."""

    parts: frozenset[Predicate]


@dataclass(frozen=True)
class Any:
    """One of these holds; of no parts, it is false."""

    parts: frozenset[Predicate]


@dataclass(frozen=True)
class Not:
    """It does not hold."""

    of: Predicate


Predicate: TypeAlias = Read | IsTrue | AtLeastZero | Same | All | Any | Not
Term: TypeAlias = Affine | Predicate
TRUE, FALSE = All(frozenset()), Any(frozenset())


def index(axis: int) -> Affine:
    """The index of an axis."""
    return Affine(((axis, 1),), ZERO)


def number(size: int | Size) -> Affine:
    """A number, or a size."""
    return Affine((), Size.of(size))


def at_least_zero(of: Affine) -> Predicate:
    if of.never_negative:
        return TRUE
    if of.number is not None:
        return FALSE
    return AtLeastZero(of)


def both(parts: Iterable[Predicate]) -> Predicate:
    """All of them."""
    return _joined(All, parts, settled=FALSE)


def either(parts: Iterable[Predicate]) -> Predicate:
    """One of them."""
    return _joined(Any, parts, settled=TRUE)


def _joined(kind: type[All | Any], parts: Iterable[Predicate], settled: Predicate) -> Predicate:
    """The parts joined, those of the same kind flat; ``settled`` is a part that decides the whole."""
    found: set[Predicate] = set()
    for part in parts:
        found |= part.parts if isinstance(part, kind) else {part}
    if settled in found:
        return settled
    return next(iter(found)) if len(found) == 1 else kind(frozenset(found))


def negation(of: Predicate) -> Predicate:
    if of in (TRUE, FALSE):
        return FALSE if of == TRUE else TRUE
    if isinstance(of, Not):
        return of.of
    if isinstance(of, AtLeastZero):  # not (x >= 0) is -x - 1 >= 0
        return at_least_zero(number(-1).plus(of.of, -1))
    return Not(of)


def moved(term: Term, place: Callable[[int], Affine]) -> Term:
    """A term whose axes are at other places: ``place`` of an axis is what its index becomes."""
    if isinstance(term, Affine):
        return moved_affine(term, place)
    if isinstance(term, Read):
        return Read(term.value, tuple(moved_affine(at, place) for at in term.at))
    if isinstance(term, IsTrue):
        return IsTrue(as_read(moved(term.of, place)))
    if isinstance(term, AtLeastZero):
        return at_least_zero(moved_affine(term.of, place))
    if isinstance(term, Same):
        return same(*(moved(each, place) for each in _pair(term)))
    if isinstance(term, Not):
        return negation(as_predicate(moved(term.of, place)))
    parts = [as_predicate(moved(part, place)) for part in term.parts]
    return both(parts) if isinstance(term, All) else either(parts)


def moved_affine(term: Affine, place: Callable[[int], Affine]) -> Affine:
    result = number(term.offset)
    for axis, slope in term.slopes:
        result = result.plus(place(axis), slope)
    return result


def same(a: Term, b: Term) -> Predicate:
    """Whether two integers are equal."""
    if a == b:
        return TRUE
    if isinstance(a, Affine) and isinstance(b, Affine):
        difference = a.plus(b, -1).number
        if difference is not None:
            return TRUE if difference == 0 else FALSE
    assert isinstance(a, (Affine, Read)) and isinstance(b, (Affine, Read))
    return Same(frozenset((a, b)))


def _pair(term: Same) -> tuple[Affine | Read, Affine | Read]:
    first, second = term.terms
    return first, second


def as_read(term: Term) -> Read:
    assert isinstance(term, Read)
    return term


def as_predicate(term: Term) -> Predicate:
    assert not isinstance(term, Affine)
    return term
