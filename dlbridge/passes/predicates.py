"""What each element of an integer or boolean tensor is, as a formula in the indices of its axes.

A mask of attention is often computed: positions by ``Range``, put along axes by ``Unsqueeze`` and ``Expand``, compared,
joined by ``And``, with elements of a padding mask that are gathered at them. ``Predicates`` follows such a graph node
by node and knows of each value a *term*: element ``[b, h, q, k]`` of a causal mask is ``q - k >= 0``. What it does not
follow is a term too, ``Read``: the element of that very tensor. So a term is never a guess, and two values of the same
term are equal for all inputs.

Axes are numbered from the last, which is 0, so that broadcasting changes no number. An axis of size 1 is not in a term.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match, constant, permutation, producer
from dlbridge.passes.sizes import Size, Sizes, shape_of

#: Integer types in which positions do not wrap round.
_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)
#: Constant tables up to this many elements are compared with a formula.
_LARGEST_TABLE = 1 << 16
#: Numbers beyond this might wrap round in int32.
_LARGEST = 1 << 30
_ZERO, _ONE = Size.of(0), Size.of(1)


# --- terms ------------------------------------------------------------------------------------------------------------


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
    return Affine(((axis, 1),), _ZERO)


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
    found: set[Predicate] = set()
    for part in parts:
        found |= part.parts if isinstance(part, All) else {part}
    if FALSE in found:
        return FALSE
    return next(iter(found)) if len(found) == 1 else All(frozenset(found))


def either(parts: Iterable[Predicate]) -> Predicate:
    found: set[Predicate] = set()
    for part in parts:
        found |= part.parts if isinstance(part, Any) else {part}
    if TRUE in found:
        return TRUE
    return next(iter(found)) if len(found) == 1 else Any(frozenset(found))


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
        return _moved(term, place)
    if isinstance(term, Read):
        return Read(term.value, tuple(_moved(at, place) for at in term.at))
    if isinstance(term, IsTrue):
        return IsTrue(_read(moved(term.of, place)))
    if isinstance(term, AtLeastZero):
        return at_least_zero(_moved(term.of, place))
    if isinstance(term, Same):
        return same(*(moved(each, place) for each in _pair(term)))
    if isinstance(term, Not):
        return negation(_predicate(moved(term.of, place)))
    parts = [_predicate(moved(part, place)) for part in term.parts]
    return both(parts) if isinstance(term, All) else either(parts)


def _moved(term: Affine, place: Callable[[int], Affine]) -> Affine:
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


def _read(term: Term) -> Read:
    assert isinstance(term, Read)
    return term


def _predicate(term: Term) -> Predicate:
    assert not isinstance(term, Affine)
    return term


# --- following a graph ------------------------------------------------------------------------------------------------


class Predicates:
    """The terms of the values of a graph. Its nodes are visited in order."""

    def __init__(self) -> None:
        self.sizes = Integers()
        self._terms: dict[ir.Value, Term] = {}

    def visit(self, node: ir.Node) -> None:
        """Follow one node; its inputs must have been visited."""
        self.sizes.visit(node)
        rule = _RULES.get(op_key(node))
        value = node.outputs[0] if node.outputs else None
        if rule is None or value is None or not _is_followed(value):
            return
        term = rule(self, Match(node))
        if term is not None and _is_small(term):
            self._terms[value] = _without_ones(term, value)

    def get(self, value: ir.Value | None) -> Term | None:
        """What each element of a value is; None of what is no integer or boolean, or of no known rank."""
        if value is None or not _is_followed(value):
            return None
        if value not in self._terms:
            self._terms[value] = _without_ones(self._found(value), value)
        return self._terms[value]

    def _found(self, value: ir.Value) -> Term:
        entries = self.sizes.get(value)
        if entries is not None and entries.size == 1 and entries.reshape(-1)[0] is not None:
            return number(entries.reshape(-1)[0])
        tensor = constant(value)
        table = None if tensor is None or tensor.size > _LARGEST_TABLE else _of_table(tensor.numpy())
        if table is not None:
            return table
        rank = len(value.shape or ())
        return Read(value, tuple(index(rank - 1 - axis) for axis in range(rank)))

    def affine(self, value: ir.Value | None) -> Affine | None:
        term = self.get(value)
        return term if isinstance(term, Affine) else None

    def predicate(self, value: ir.Value | None) -> Predicate | None:
        """The term of a boolean."""
        term = self.get(value)
        return None if term is None or isinstance(term, Affine) or _dtype(value) != ir.DataType.BOOL else term


def _is_small(term: Term) -> bool:
    """Whether the numbers of a sum do not wrap round, even where the sizes are large."""
    if not isinstance(term, Affine):
        return True
    return all(abs(n) <= _LARGEST for n in (*(s for _, s in term.slopes), *term.offset.terms.values()))


def _is_followed(value: ir.Value) -> bool:
    return value.shape is not None and value.dtype in (*_INTEGERS, ir.DataType.BOOL)


def _dtype(value: ir.Value | None) -> ir.DataType | None:
    return None if value is None else value.dtype


def _without_ones(term: Term, value: ir.Value) -> Term:
    """The term without the indices of axes of size 1, which are 0."""
    sizes = shape_of(value) or []
    ones = {axis for axis, size in enumerate(reversed(sizes)) if size == _ONE}
    return moved(term, lambda axis: number(0) if axis in ones else index(axis)) if ones else term


def _of_table(array: np.ndarray) -> Term | None:
    """A constant table that is a formula in its indices; None of any other."""
    if not array.size:
        return None
    if array.dtype == bool:
        if array.all() or not array.any():
            return TRUE if array.all() else FALSE
        return None
    slopes = {}
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = [0] * array.ndim
            second = [1 if each == axis else 0 for each in range(array.ndim)]
            slopes[array.ndim - 1 - axis] = int(array[tuple(second)]) - int(array[tuple(first)])
    start = int(array.reshape(-1)[0])
    if max([abs(start), *map(abs, slopes.values())]) > _LARGEST:
        return None
    planes = np.indices(array.shape, dtype=np.int64)
    wanted = sum((s * planes[array.ndim - 1 - axis] for axis, s in slopes.items()), np.full(array.shape, start))
    return Affine.of(slopes, Size.of(start)) if np.array_equal(wanted, array) else None


# --- one op each ------------------------------------------------------------------------------------------------------

Rule = Callable[[Predicates, Match], "Term | None"]


def _fits(operand: ir.Value, result: ir.Value) -> bool:
    """Whether an operand is broadcast to a result along no axis but those of size 1."""
    given, wanted = shape_of(operand), shape_of(result)
    if given is None or wanted is None:
        return False
    pairs = zip(reversed(given), reversed(wanted), strict=False)
    return all(size is not None and size in (_ONE, whole) for size, whole in pairs)


def _operands(known: Predicates, node: Match, slots: Sequence[int] | None = None) -> list[Term] | None:
    """The terms of operands that are broadcast."""
    values = [node.operand(slot) for slot in slots] if slots is not None else node.operands
    terms = [known.get(value) for value in values]
    found = [term for term in terms if term is not None]
    fit = all(_fits(value, node.output) for value in values)
    return found if fit and len(found) == len(values) else None


def _two(known: Predicates, node: Match) -> tuple[Affine, Affine] | None:
    found = _operands(known, node)
    if found is None or len(found) != 2:
        return None
    a, b = found
    return (a, b) if isinstance(a, Affine) and isinstance(b, Affine) else None


def _range(known: Predicates, node: Match) -> Term | None:
    start, step = known.sizes.get(node.input(0)), known.sizes.numbers(node.input(2))
    if start is None or start.size != 1 or step is None:
        return None
    first = start.reshape(-1)[0]
    return None if first is None else Affine.of({0: step[0]}, first)


def _added(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    return None if two is None else two[0].plus(two[1], -1 if node.is_op("Sub") else 1)


def _negative(known: Predicates, node: Match) -> Term | None:
    term = known.affine(node.input(0))
    return None if term is None else number(0).plus(term, -1)


def _times(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    for one, other in (two, two[::-1]) if two is not None else ():
        factor = other.number
        if factor is not None:
            return number(0).plus(one, factor)
    return None


def _compared(known: Predicates, node: Match) -> Term | None:
    two = _two(known, node)
    if two is None:
        return None
    less, more = two if node.is_op("Less", "LessOrEqual") else two[::-1]
    difference = more.plus(less, -1)
    return at_least_zero(difference if node.is_op("LessOrEqual", "GreaterOrEqual") else difference.plus(number(-1)))


def _equal(known: Predicates, node: Match) -> Term | None:
    found = _operands(known, node)
    if found is None or len(found) != 2 or _dtype(node.input(0)) not in _INTEGERS:
        return None
    a, b = found
    for read, other in ((a, b), (b, a)):
        if isinstance(read, Read) and isinstance(other, Affine) and other.number == 0:
            return negation(IsTrue(read))
    return same(a, b)


def _joined(join: Callable[[Iterable[Predicate]], Predicate]) -> Rule:
    def rule(known: Predicates, node: Match) -> Term | None:
        found = _operands(known, node)
        return None if found is None else join([_predicate(term) for term in found])

    return rule


def _denied(known: Predicates, node: Match) -> Term | None:
    term = known.predicate(node.input(0))
    return None if term is None else negation(term)


def _chosen(known: Predicates, node: Match) -> Term | None:
    """Where of booleans: ``c and a, or not c and b``."""
    if _dtype(node.input(1)) != ir.DataType.BOOL:
        return None
    found = _operands(known, node)
    if found is None:
        return None
    condition, a, b = (_predicate(term) for term in found)
    return either([both([condition, a]), both([negation(condition), b])])


def _cast(known: Predicates, node: Match) -> Term | None:
    term, was, becomes = known.get(node.input(0)), _dtype(node.input(0)), node.output.dtype
    if term is None:
        return None
    if becomes == ir.DataType.BOOL and was in _INTEGERS:
        if isinstance(term, Affine):
            return negation(same(term, number(0)))
        return IsTrue(term) if isinstance(term, Read) and not _is_whole(term, node.operand(0)) else None
    if was == ir.DataType.BOOL and becomes in _INTEGERS:
        return number(1 if term == TRUE else 0) if term in (TRUE, FALSE) else None
    return term if (was in _INTEGERS and becomes in _INTEGERS) or was == becomes else None


def _is_whole(term: Read, value: ir.Value) -> bool:
    """Whether a term is that of a value that was not followed: its cast is another such value."""
    return term.value is value


def _kept(known: Predicates, node: Match) -> Term | None:
    return known.get(node.input(0))


def _reshaped(known: Predicates, node: Match) -> Term | None:
    """Reshape, Squeeze, Unsqueeze that add or remove axes of size 1."""
    term, before, after = known.get(node.input(0)), shape_of(node.input(0)), shape_of(node.output)
    if term is None or before is None or after is None:
        return None
    old, new = _long_axes(before), _long_axes(after)
    if [size for _, size in old] != [size for _, size in new] or any(size is None for _, size in new):
        return None
    places = {axis: other for (axis, _), (other, _) in zip(old, new, strict=True)}
    return moved(term, lambda axis: index(places[axis]))


def _long_axes(sizes: Sizes) -> list[tuple[int, Size | None]]:
    """(axis, size) of the axes that are not of size 1."""
    count = len(sizes)
    return [(count - 1 - place, size) for place, size in enumerate(sizes) if size != _ONE]


def _expanded(known: Predicates, node: Match) -> Term | None:
    found = _operands(known, node, [0])
    return None if found is None else found[0]


def _tiled(known: Predicates, node: Match) -> Term | None:
    """Repeats along axes of size 1."""
    term, sizes, repeats = known.get(node.input(0)), shape_of(node.input(0)), known.sizes.get(node.input(1))
    if term is None or sizes is None or repeats is None or len(sizes) != repeats.size:
        return None
    is_once = all(size == _ONE or times == _ONE for size, times in zip(sizes, repeats.reshape(-1), strict=True))
    return term if is_once else None


def _transposed(known: Predicates, node: Match) -> Term | None:
    term, perm = known.get(node.input(0)), permutation(node)
    if term is None or perm is None:
        return None
    last = len(perm) - 1
    return moved(term, lambda axis: index(last - perm.index(last - axis)))


def _sliced(known: Predicates, node: Match) -> Term | None:
    """Slices by steps of 1, from a start that is not counted from the end."""
    term, rank = known.get(node.input(0)), node.rank()
    starts, axes = known.sizes.get(node.input(1)), known.sizes.numbers(node.input(3))
    steps = known.sizes.numbers(node.input(4)) if node.input(4) is not None else None
    if term is None or rank is None or starts is None or any(step != 1 for step in steps or ()):
        return None
    if node.input(4) is not None and steps is None:
        return None
    axes = axes if axes is not None else list(range(len(starts))) if node.input(3) is None else None
    if axes is None:
        return None
    begin: dict[int, Size] = {}
    for axis, start in zip(axes, starts.reshape(-1), strict=True):
        if start is None or not all(c > 0 for c in start.terms.values()):
            return None
        begin[rank - 1 - axis % rank] = start
    return moved(term, lambda axis: index(axis).plus(number(begin.get(axis, _ZERO))))


def _concatenated(known: Predicates, node: Match) -> Term | None:
    """Parts that continue one another: 0 and 1, 2, 3 is the index."""
    parts, rank = [known.affine(value) for value in node.operands], node.rank()
    sizes = [shape_of(value) for value in node.operands]
    if rank is None or not parts:
        return None
    axis = node.integer("axis") % rank
    along, start = rank - 1 - axis, _ZERO
    long = next((place for place, size in enumerate(sizes) if size is not None and size[axis] != _ONE), None)
    before = None if long is None else _sum(sizes[:long], axis)
    if long is None or before is None or None in parts or any(size is None or size[axis] is None for size in sizes):
        return None
    one = parts[long]  # it tells the slope
    assert one is not None
    whole = _moved(one, lambda each: _shifted(each, along, before))
    for part, size in zip(parts, sizes, strict=True):
        assert part is not None and size is not None
        length = size[axis]
        assert length is not None
        place = number(start) if length == _ONE else index(along).plus(number(start))
        if _moved(whole, functools.partial(_put, along, place)) != part:
            return None
        start = start + length
    return whole


def _shifted(axis: int, along: int, by: Size) -> Affine:
    return index(axis).plus(number(by), -1) if axis == along else index(axis)


def _put(along: int, place: Affine, axis: int) -> Affine:
    return place if axis == along else index(axis)


def _sum(sizes: Sequence[Sizes | None], axis: int) -> Size | None:
    total = _ZERO
    for each in sizes:
        size = None if each is None else each[axis]
        if size is None:
            return None
        total = total + size
    return total


def _summed(known: Predicates, node: Match) -> Term | None:
    """The running sum of a number, from the first on."""
    term, axes, rank = known.affine(node.input(0)), known.sizes.numbers(node.input(1)), node.rank()
    if term is None or axes is None or rank is None or node.integer("exclusive") or node.integer("reverse"):
        return None
    each = term.number
    return None if each is None else Affine.of({rank - 1 - axes[0] % rank: each}, Size.of(each))


def _triangle(known: Predicates, node: Match) -> Term | None:
    """Trilu of booleans: a condition on the last two axes."""
    term, diagonal = known.predicate(node.input(0)), known.sizes.numbers(node.input(1))
    if term is None or (node.input(1) is not None and diagonal is None):
        return None
    above = index(0).plus(index(1), -1).plus(number((diagonal or [0])[0]), -1)  # column - row - diagonal
    keeps = at_least_zero(above if node.integer("upper") else number(0).plus(above, -1))
    return both([term, keeps])


def _filled(known: Predicates, node: Match) -> Term | None:
    tensor = node.attribute("value")
    if tensor is None or tensor.size != 1:
        return None
    found = tensor.numpy().reshape(-1)[0]
    if tensor.dtype == ir.DataType.BOOL:
        return TRUE if found else FALSE
    return number(int(found)) if tensor.dtype in _INTEGERS and abs(int(found)) <= _LARGEST else None


def _gathered(known: Predicates, node: Match) -> Term | None:
    """The elements at places that are a formula, and not counted from the end."""
    data, places = known.get(node.input(0)), known.affine(node.input(1))
    rank, more = node.rank(0), node.rank(1)
    if data is None or places is None or rank is None or more is None or not places.never_negative:
        return None
    axis = rank - 1 - node.integer("axis") % rank

    def place(each: int) -> Affine:
        if each == axis:
            return moved_places
        return index(each) if each < axis else index(each + more - 1)

    moved_places = _moved(places, lambda each: index(each + axis))
    return moved(data, place)


def _gathered_by_rows(known: Predicates, node: Match) -> Term | None:
    """GatherND whose rows name one element each, by parts that are formulas."""
    data, rank = known.get(node.input(0)), node.rank(0)
    rows = producer(node.input(1), "Concat")
    if data is None or rank is None or rows is None or node.integer("batch_dims"):
        return None
    parts = [known.affine(value) for value in rows.operands]
    lasts = [value.shape[-1] if value.shape is not None and len(value.shape) else None for value in rows.operands]
    if rows.integer("axis") not in (-1, (rows.rank() or 0) - 1) or lasts != [1] * rank:
        return None
    if not all(_fits(value, rows.output) for value in rows.operands):
        return None
    places: dict[int, Affine] = {}
    for axis, part in enumerate(parts):
        if part is None or not part.never_negative:
            return None
        places[rank - 1 - axis] = _moved(part, lambda each: index(each - 1))
    return moved(data, lambda axis: places[axis])


_RULES: dict[str, Rule] = {
    "Range": _range,
    "Add": _added,
    "Sub": _added,
    "Neg": _negative,
    "Mul": _times,
    "Less": _compared,
    "LessOrEqual": _compared,
    "Greater": _compared,
    "GreaterOrEqual": _compared,
    "Equal": _equal,
    "And": _joined(both),
    "Or": _joined(either),
    "Not": _denied,
    "Where": _chosen,
    "Cast": _cast,
    "Identity": _kept,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Expand": _expanded,
    "Tile": _tiled,
    "Transpose": _transposed,
    "Slice": _sliced,
    "Concat": _concatenated,
    "CumSum": _summed,
    "Trilu": _triangle,
    "ConstantOfShape": _filled,
    "Gather": _gathered,
    "GatherND": _gathered_by_rows,
}
