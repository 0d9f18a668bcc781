"""Arithmetic in text, and constraints on the named sizes of a model: ``seq <= 512``, ``h % 32 == 0``.

A constraint is text: integers, names, ``+ - * // %``, ``min`` and ``max``, comparisons, ``and``, ``or``, ``not``.
It may come from a file, so it is never evaluated as Python. Sizes and the formulas of descriptions are read here too,
each with a grammar of its own. This module imports nothing but the standard library: the runtime reads it too.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Key of a file's metadata that holds the constraints, as a JSON list.
METADATA_KEY = "dlbridge.constraints"
#: Longer text, and text that is nested deeper, is no constraint that a reader of ours has written.
_LONGEST, _DEEPEST = 1000, 60
#: How far from the size that is wanted another one is looked for, and how many are kept for each name.
_FARTHEST, _KEPT = 20_000, 12
#: Combinations of sizes that are tried.
_COMBINATIONS = 50_000
#: Names that a constraint relates to each other are looked for near these multiples of the sizes that are wanted: a
#: product of two sizes may have to be far larger.
_MULTIPLES = (1, 2, 4, 8, 16, 32)

#: The arithmetic of numbers and sizes.
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.AST], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., int]] = {"min": min, "max": max}


@dataclass(frozen=True)
class Grammar:
    """What a text may consist of, besides names, brackets and signs.

    Attributes:
        operators: The operators of its arithmetic.
        relations: Whether comparisons, ``and``, ``or``, ``not``, ``min`` and ``max`` are allowed.
        reals: Whether numbers may have decimals.
    """

    operators: frozenset[type[ast.operator]]
    relations: bool = False
    reals: bool = False


#: Sums and products of sizes.
POLYNOMIAL = Grammar(frozenset((ast.Add, ast.Sub, ast.Mult)))
#: A size as ONNX writes it.
SIZE = Grammar(POLYNOMIAL.operators | {ast.FloorDiv})
#: A condition on sizes, or what stands on one side of it.
CONSTRAINT = Grammar(SIZE.operators | {ast.Mod}, relations=True)
#: A number in a description.
FORMULA = Grammar(frozenset(BINARY), reals=True)


class Expression:
    """Arithmetic on named sizes, or a constraint on them.

    Example:
        >>> Expression("seq % 4 == 0")({"seq": 8})
        True

    Args:
        text: The text.
        grammar: What it may consist of.

    Raises:
        ValueError: When the text is no such arithmetic.
    """

    def __init__(self, text: str, grammar: Grammar = CONSTRAINT) -> None:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        try:
            self._tree = ast.parse(text, mode="eval").body
            self.names = frozenset(_names(self._tree, grammar))
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"'{text}' is no arithmetic on sizes") from None
        self.text = ast.unparse(self._tree)  # of what was read alone: a file may hold comments

    def __call__(self, sizes: Mapping[str, int]) -> int | bool:
        """The value with these sizes; a division by zero makes a constraint false.

        Raises:
            KeyError: When a name has no size.
        """
        try:
            return self.value(sizes)
        except ZeroDivisionError:
            return False

    def value(self, sizes: Mapping[str, Any], number: Callable[[Any], Any] = lambda n: n) -> Any:
        """The value in an algebra of any kind: of numbers, or of what else has the operators that the text uses.

        Args:
            sizes: Name -> what it is in that algebra.
            number: Makes of a number in the text what it is there.

        Raises:
            KeyError: When a name is not known.
        """
        return _value(self._tree, sizes, number)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def parse(texts: Iterable[object]) -> list[Expression]:
    """Constraints from their texts.

    Raises:
        ValueError: When one is none.
    """
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no constraint")
        found.append(Expression(text))
    return found


def dimension(text: str) -> Expression | None:
    """A dimension as ONNX writes it (``2*n + 1``) as arithmetic; None of what is a name, or no arithmetic."""
    if text.isidentifier():
        return None
    try:
        return Expression(text)
    except ValueError:
        return None


def names_of(dimension_text: str) -> frozenset[str]:
    """The names in a dimension; what is no arithmetic is a name as it stands."""
    found = dimension(dimension_text)
    return frozenset((dimension_text,)) if found is None else found.names


def broken(constraints: Sequence[Expression], sizes: Mapping[str, int]) -> Expression | None:
    """The first constraint that the sizes break; those on names that have no size are left out."""
    for constraint in constraints:
        if constraint.names <= sizes.keys() and not constraint(sizes):
            return constraint
    return None


def smallest(name: str, constraints: Sequence[Expression]) -> int:
    """The smallest size that a name may have: 1, or 0 where a constraint says so in as many words (``0 <= past``)."""
    return 0 if any(c.text in (f"0 <= {name}", f"{name} >= 0") for c in constraints) else 1


def largest(name: str, constraints: Sequence[Expression], most: int) -> int | None:
    """The largest size that constraints on a name alone allow it; None where they allow ``most``."""
    own = [c for c in constraints if c.names == {name}]
    found = next((size for size in range(most, 0, -1) if broken(own, {name: size}) is None), most)
    return found if found < most else None


def fit(
    constraints: Sequence[Expression], preferred: Mapping[str, int], fixed: Mapping[str, int] | None = None
) -> dict[str, int] | None:
    """Sizes that keep the constraints, each as near to the preferred one as can be; None when there are none in reach.

    Args:
        constraints: The constraints.
        preferred: Name -> the size that is wanted.
        fixed: Name -> the size that it must have.
    """
    fixed = dict(fixed or {})
    free = preferred.keys() - fixed.keys()
    related = {name for c in constraints if len(c.names & free) > 1 for name in c.names & free}
    for multiple in _MULTIPLES if related else (1,):
        wanted = {name: size * multiple if name in related else size for name, size in preferred.items()}
        found = _fit_near(constraints, wanted, fixed)
        if found is not None:
            return found
    return None


def _fit_near(
    constraints: Sequence[Expression], preferred: Mapping[str, int], fixed: Mapping[str, int]
) -> dict[str, int] | None:
    """Sizes that keep the constraints, from the sizes of each name that are nearest to the preferred one."""
    names = sorted(set(preferred) - fixed.keys(), key=lambda n: sum(n in c.names for c in constraints))
    candidates: list[list[int]] = []
    for name in names:
        own = [c for c in constraints if c.names - fixed.keys() == {name}]
        candidates.append(list(itertools.islice(_near(name, preferred[name], own, fixed), _KEPT)))
    for sizes in itertools.islice(_by_distance(candidates), _COMBINATIONS):
        found = {**fixed, **dict(zip(names, sizes, strict=True))}
        if broken(constraints, found) is None:
            return found
    return None


def _near(name: str, wanted: int, own: Sequence[Expression], fixed: Mapping[str, int]) -> Iterator[int]:
    """The sizes of a name that keep what is said of it alone, the nearest to the wanted one first."""
    least = smallest(name, own)
    for distance in range(_FARTHEST if own else _KEPT):
        for size in dict.fromkeys((wanted + distance, wanted - distance)):
            if size >= least and broken(own, {**fixed, name: size}) is None:
                yield size


def _by_distance(candidates: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Combinations, those that take early candidates first."""
    longest = max((len(c) for c in candidates), default=1)
    for reach in range(longest):
        for picks in itertools.product(*(range(min(reach + 1, len(c))) for c in candidates)):
            if max(picks, default=0) == reach or not picks:
                yield tuple(c[i] for c, i in zip(candidates, picks, strict=True))


def _names(tree: ast.expr, grammar: Grammar, depth: int = 0) -> Iterator[str]:
    """The names in a tree, all of whose nodes are checked."""
    if depth > _DEEPEST:
        raise SyntaxError("nested too deep")
    parts: Sequence[ast.expr]
    match tree:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return
        case ast.Constant(value=float()) if grammar.reals:
            return
        case ast.Name(id=name):
            yield name
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in grammar.operators:
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            parts = [operand]
        case _ if grammar.relations:
            parts = _parts_of_relation(tree)
        case _:
            raise SyntaxError("no arithmetic")
    for part in parts:
        yield from _names(part, grammar, depth + 1)


def _parts_of_relation(tree: ast.expr) -> Sequence[ast.expr]:
    match tree:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [operand]
        case ast.BoolOp(values=values):
            return values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            return [left, *others]
        case ast.Call(func=ast.Name(id=name), args=[_, _, *_] as arguments, keywords=[]) if name in _FUNCTIONS:
            return arguments
    raise SyntaxError("no arithmetic")


def _value(tree: ast.expr, sizes: Mapping[str, Any], number: Callable[[Any], Any]) -> Any:
    def value(part: ast.expr) -> Any:
        return _value(part, sizes, number)

    match tree:
        case ast.Constant(value=constant):
            return number(constant)
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](value(left), value(right))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not value(operand)
        case ast.UnaryOp(operand=operand):
            return -value(operand)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(value(v) for v in values)
        case ast.BoolOp(values=values):
            return any(value(v) for v in values)
        case ast.Compare(left=left, ops=ops, comparators=others):
            numbers = [value(part) for part in (left, *others)]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(ops, numbers, numbers[1:], strict=False))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(value(a) for a in arguments))
    raise AssertionError("checked before")
