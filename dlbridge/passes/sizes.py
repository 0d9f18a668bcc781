"""Sizes: arithmetic on the sizes of axes, with names for those that are not known.

A :class:`Size` is a polynomial with integer coefficients in names: ``2*batch``, ``seq + 1``. What is no polynomial
(``(seq + 1)//2``) is a name of its own, so that two sizes are equal only when they are equal for every input.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import overload

import numpy as np
import onnx_ir as ir

from dlbridge.constraints import SIZE, Expression
from dlbridge.errors import ShapeError

#: A product that would have more terms is a name of its own, which all equal ones have: text in a file may multiply
#: many sums.
_MOST_TERMS = 1000


class Size:
    """An integer polynomial in named sizes; immutable."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[tuple[str, ...], int]) -> None:
        self.terms = {names: c for names, c in terms.items() if c}

    @overload
    @classmethod
    def of(cls, size: int | str | Size) -> Size: ...
    @overload
    @classmethod
    def of(cls, size: ir.SymbolicDim | None) -> Size | None: ...
    @classmethod
    def of(cls, size: int | str | ir.SymbolicDim | Size | None) -> Size | None:
        """A size from a number, or from a name as ONNX writes it; None of what is not known."""
        if isinstance(size, Size) or size is None:
            return size
        if isinstance(size, ir.SymbolicDim):
            return cls.of(size.value)
        if isinstance(size, (int, np.integer)):
            return cls({(): int(size)})
        return _of_text(size)

    @property
    def number(self) -> int | None:
        """The size, when it does not depend on names."""
        if not self.terms:
            return 0
        return self.terms[()] if list(self.terms) == [()] else None

    @property
    def positive(self) -> bool:
        """Whether it is above zero for all names above zero."""
        return bool(self.terms) and all(c > 0 for c in self.terms.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __add__(self, other: Size) -> Size:
        names = {**self.terms, **other.terms}
        return Size({n: self.terms.get(n, 0) + other.terms.get(n, 0) for n in names})

    def __neg__(self) -> Size:
        return Size({n: -c for n, c in self.terms.items()})

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __mul__(self, other: Size) -> Size:
        if len(self.terms) * len(other.terms) > _MOST_TERMS:
            factors = "*".join(sorted((self._factor(), other._factor())))
            return Size({(f"product_{hashlib.sha256(factors.encode()).hexdigest()[:12]}",): 1})
        terms: dict[tuple[str, ...], int] = {}
        for a, c in self.terms.items():
            for b, d in other.terms.items():
                names = tuple(sorted(a + b))
                terms[names] = terms.get(names, 0) + c * d
        return Size(terms)

    def __floordiv__(self, other: Size) -> Size:
        exact = self.over(other)
        if exact is not None:
            return exact
        if self.number is not None and other.number:
            return Size.of(self.number // other.number)
        return Size({(f"({self._factor()}//{other._factor()})",): 1})

    def over(self, other: Size) -> Size | None:
        """The quotient where the division by one term leaves no rest, else None."""
        if len(other.terms) != 1:
            return Size.of(1) if self == other and self.terms else None
        ((names, c),) = other.terms.items()
        terms = {}
        for own, d in self.terms.items():
            rest = list(own)
            for name in names:
                if name not in rest:
                    return None
                rest.remove(name)
            if d % c:
                return None
            terms[tuple(rest)] = d // c
        return Size(terms)

    def __str__(self) -> str:
        text = ""
        for names, c in sorted(self.terms.items(), key=lambda term: (-len(term[0]), term[0])):
            term = "*".join(([str(abs(c))] if abs(c) != 1 or not names else []) + list(names))
            sign = "-" if c < 0 else "+"
            if text:
                text += f" {sign} {term}"
            else:
                text = f"{sign}{term}".lstrip("+")
        return text or "0"

    __repr__ = __str__

    def _factor(self) -> str:
        text = str(self)
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def dim(self) -> int | str:
        """As a dim of ``ir.Shape``."""
        return str(self) if self.number is None else self.number


@functools.lru_cache(maxsize=10_000)
def _of_text(text: str) -> Size:
    """The size that a text says; a text that is no arithmetic is a name."""
    try:
        expression = Expression(text, SIZE)
    except ValueError:
        return Size({(text,): 1})
    return expression.value({name: Size({(name,): 1}) for name in expression.names}, Size.of)


#: The sizes of the axes of a value; None for one that is not known.
Sizes = list[Size | None]


def shape_of(value: ir.Value | None) -> Sizes | None:
    """The sizes of a value's axes."""
    return None if value is None or value.shape is None else [Size.of(size) for size in value.shape]


def require_shapes(inputs: Iterable[ir.Value]) -> None:
    """Check that it is known how many axes inputs have.

    Raises:
        ShapeError: When it is not of one.
    """
    for value in inputs:
        if value.shape is None:
            hint = f"say its sizes: --input '{value.name}[batch,...]' (inputs={{'{value.name}': '[batch,...]'}})"
            raise ShapeError("the input has no shape", where=value.name, hint=hint)


def known_shape(value: ir.Value | None) -> list[Size] | None:
    """The sizes of a value's axes, where all of them are known, as numbers or by their names."""
    sizes = shape_of(value)
    known = [size for size in sizes or () if size is not None]
    return known if sizes is not None and len(known) == len(sizes) else None


def product(sizes: Iterable[Size | None]) -> Size | None:
    """The product of sizes; None where one is not known."""
    total = Size.of(1)
    for size in sizes:
        if size is None:
            return None
        total = total * size
    return total
