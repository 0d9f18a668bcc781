"""Ops that put elements at other places: shapes, slices, joins, gathers; and those that make them by place."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx_ir as ir

from dlbridge.passes.matching import Match, permutation, producer
from dlbridge.passes.predicates.following import INTEGERS, LARGEST, Predicates, fits, operands, term_of
from dlbridge.passes.predicates.terms import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Affine,
    Term,
    at_least_zero,
    both,
    index,
    moved,
    moved_affine,
    number,
)
from dlbridge.passes.sizes import Size, Sizes, shape_of


@term_of("Identity")
def _kept(known: Predicates, node: Match) -> Term | None:
    return known.get(node.input(0))


@term_of("Reshape", "Squeeze", "Unsqueeze")
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
    return [(count - 1 - place, size) for place, size in enumerate(sizes) if size != ONE]


@term_of("Expand")
def _expanded(known: Predicates, node: Match) -> Term | None:
    found = operands(known, node, [0])
    return None if found is None else found[0]


@term_of("Tile")
def _tiled(known: Predicates, node: Match) -> Term | None:
    """Repeats along axes of size 1."""
    term, sizes, repeats = known.get(node.input(0)), shape_of(node.input(0)), known.sizes.get(node.input(1))
    if term is None or sizes is None or repeats is None or len(sizes) != repeats.size:
        return None
    is_once = all(size == ONE or times == ONE for size, times in zip(sizes, repeats.reshape(-1), strict=True))
    return term if is_once else None


@term_of("Transpose")
def _transposed(known: Predicates, node: Match) -> Term | None:
    term, perm = known.get(node.input(0)), permutation(node)
    if term is None or perm is None:
        return None
    last = len(perm) - 1
    return moved(term, lambda axis: index(last - perm.index(last - axis)))


@term_of("Slice")
def _sliced(known: Predicates, node: Match) -> Term | None:
    """Slices by steps of 1, from a start that is not counted from the end."""
    term, rank = known.get(node.input(0)), node.rank()
    starts = known.sizes.get(node.input(1))
    if term is None or rank is None or starts is None:
        return None
    axes = _numbers(known, node, 3, list(range(len(starts))))
    steps = _numbers(known, node, 4, [1] * len(starts))
    if axes is None or steps is None or any(step != 1 for step in steps):
        return None
    begin: dict[int, Size] = {}
    for axis, start in zip(axes, starts.reshape(-1), strict=True):
        if start is None or not all(c > 0 for c in start.terms.values()):
            return None
        begin[rank - 1 - axis % rank] = start
    return moved(term, lambda axis: index(axis).plus(number(begin.get(axis, ZERO))))


def _numbers(known: Predicates, node: Match, slot: int, default: list[int]) -> list[int] | None:
    """The numbers of an input, or those that stand for it where it is left out; None where they are not known."""
    return default if node.input(slot) is None else known.sizes.numbers(node.input(slot))


@term_of("Concat")
def _concatenated(known: Predicates, node: Match) -> Term | None:
    """Parts that continue one another: 0 and 1, 2, 3 is the index."""
    parts, rank = [known.affine(value) for value in node.operands], node.rank()
    sizes = [shape_of(value) for value in node.operands]
    if rank is None or not parts:
        return None
    axis = node.integer("axis") % rank
    along, start = rank - 1 - axis, ZERO
    long = next((place for place, size in enumerate(sizes) if size is not None and size[axis] != ONE), None)
    before = None if long is None else _sum(sizes[:long], axis)
    if long is None or before is None or None in parts or any(size is None or size[axis] is None for size in sizes):
        return None
    one = parts[long]  # it tells the slope
    assert one is not None
    whole = moved_affine(one, lambda each: _shifted(each, along, before))
    for part, size in zip(parts, sizes, strict=True):
        assert part is not None and size is not None
        length = size[axis]
        assert length is not None
        place = number(start) if length == ONE else index(along).plus(number(start))
        if moved_affine(whole, functools.partial(_put, along, place)) != part:
            return None
        start = start + length
    return whole


def _shifted(axis: int, along: int, by: Size) -> Affine:
    return index(axis).plus(number(by), -1) if axis == along else index(axis)


def _put(along: int, place: Affine, axis: int) -> Affine:
    return place if axis == along else index(axis)


def _sum(sizes: Sequence[Sizes | None], axis: int) -> Size | None:
    total = ZERO
    for each in sizes:
        size = None if each is None else each[axis]
        if size is None:
            return None
        total = total + size
    return total


@term_of("CumSum")
def _summed(known: Predicates, node: Match) -> Term | None:
    """The running sum of a number, from the first on."""
    term, axes, rank = known.affine(node.input(0)), known.sizes.numbers(node.input(1)), node.rank()
    if term is None or axes is None or rank is None or node.integer("exclusive") or node.integer("reverse"):
        return None
    each = term.number
    return None if each is None else Affine.of({rank - 1 - axes[0] % rank: each}, Size.of(each))


@term_of("Trilu")
def _triangle(known: Predicates, node: Match) -> Term | None:
    """Trilu of booleans: a condition on the last two axes."""
    term, diagonal = known.predicate(node.input(0)), known.sizes.numbers(node.input(1))
    if term is None or (node.input(1) is not None and diagonal is None):
        return None
    above = index(0).plus(index(1), -1).plus(number((diagonal or [0])[0]), -1)  # column - row - diagonal
    keeps = at_least_zero(above if node.integer("upper") else number(0).plus(above, -1))
    return both([term, keeps])


@term_of("ConstantOfShape")
def _filled(known: Predicates, node: Match) -> Term | None:
    tensor = node.attribute("value")
    if tensor is None or tensor.size != 1:
        return None
    found = tensor.numpy().reshape(-1)[0]
    if tensor.dtype == ir.DataType.BOOL:
        return TRUE if found else FALSE
    return number(int(found)) if tensor.dtype in INTEGERS and abs(int(found)) <= LARGEST else None


@term_of("Gather")
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

    moved_places = moved_affine(places, lambda each: index(each + axis))
    return moved(data, place)


@term_of("GatherND")
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
    if not all(fits(value, rows.output) for value in rows.operands):
        return None
    places: dict[int, Affine] = {}
    for axis, part in enumerate(parts):
        if part is None or not part.never_negative:
            return None
        places[rank - 1 - axis] = moved_affine(part, lambda each: index(each - 1))
    return moved(data, lambda axis: places[axis])
