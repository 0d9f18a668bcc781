"""Sets of inputs with what only a form under test has: numbers that the model's graph has not, sizes in pairs, and the
rows of a table in which it has other numbers than the model.

A fault that shows for one number, for two sizes together, or in a row of a large table is met by random inputs seldom.
Nothing is concluded from what stands in the form: the outputs decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlbridge.model import Model
from dlbridge.passes.matching import Match, stored
from dlbridge.verification.inputs import literals
from dlbridge.verification.inputs.roles import Role, table_uses
from dlbridge.verification.inputs.strategies import PLAIN, Strategy
from dlbridge.verification.measure import is_float

#: Sizes that are tried beside each of those that stand in the form.
_BESIDE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
#: Of more numbers, these many are tried.
_MOST_NUMBERS, _MOST_SIZES = 24, 6
#: Rows of the set in which all numbers meet.
_MANY_ROWS = 257

#: The rows of a table, by the name of the input that is the index.
Rows = Mapping[str, np.ndarray]


def unlike_rows(model: Model, forms: Iterable[Any]) -> Rows:
    """For each input that is an index: the rows in which tables of other models have other numbers.

    A table is the other model's if it has the same name and shape there. Where most rows differ, random ones will do.

    Args:
        model: The model.
        forms: The forms under test, of which those that are a ``Model`` are looked at.
    """
    found: dict[str, np.ndarray] = {}
    for form in forms:
        for value in model.inputs if isinstance(form, Model) else ():
            tables = {table: Match(node).get("axis", 0) for node, table in table_uses(value)}
            for table, axis in tables.items():
                rows = _unlike(stored(table), stored(form.graph.initializers.get(table.name or "")), axis)
                found[value.name or ""] = np.union1d(found.get(value.name or "", rows), rows)
    return {name: rows for name, rows in found.items() if len(rows)}


def _unlike(wanted: Any, found: Any, axis: int) -> np.ndarray:
    none = np.empty(0, int)
    if wanted is None or found is None or wanted.shape != found.shape:
        return none
    right, other = np.moveaxis(wanted.numpy(), axis, 0), np.moveaxis(found.numpy(), axis, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        differ = np.fromiter((_is_unlike(a, b) for a, b in zip(right, other, strict=True)), bool, len(right))
    return np.flatnonzero(differ) if 2 * differ.sum() < len(differ) else none


def _is_unlike(wanted: np.ndarray, found: np.ndarray) -> bool:
    return not np.array_equal(wanted.astype(found.dtype, copy=False), found, equal_nan=is_float(found.dtype))


def plans(
    numbers: Sequence[float],
    unlike: Rows,
    known: Sequence[Role],
    rows: Mapping[str, int],
    batch: Sequence[str],
    free: Sequence[str],
) -> Iterator[tuple[dict[str, int], Strategy]]:
    """Sizes that are wanted, and how the inputs are filled, for each set.

    Args:
        numbers: Numbers that only the forms under test have.
        unlike: What ``unlike_rows`` has found.
        known: The roles of the inputs.
        rows: The usual size of the batch.
        batch: The name of the batch, if it may have other sizes.
        free: The names of the other sizes.
    """
    strategies = [_rows(unlike)] if unlike else []
    strategies += [literals.everywhere(number) for number in literals.between(numbers)[:_MOST_NUMBERS]]
    for strategy in strategies:
        if any(strategy.applies(role) for role in known):
            yield dict(rows), strategy
    together = literals.together(numbers[:_MOST_NUMBERS])
    if any(together.applies(role) for role in known):
        yield {**rows, **dict.fromkeys(batch, _MANY_ROWS)}, together
    for first, second in _pairs([n for n in literals.sizes_of(numbers) if n in numbers][:_MOST_SIZES]):
        if batch and free:
            yield {**dict.fromkeys(batch, first), **dict.fromkeys(free, second)}, PLAIN


def _pairs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each of the sizes beside each of them and of the usual ones, in both orders."""
    return iter(dict.fromkeys(pair for a in sizes for b in (*sizes, *_BESIDE) for pair in ((a, b), (b, a))))


def _rows(unlike: Rows) -> Strategy:
    """Fills an index with the rows in which tables differ."""

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        if role.name not in unlike or not role.is_integer:
            return None
        return np.resize(generator.permutation(unlike[role.name]), shape)

    return Strategy("rows that differ", fill)
