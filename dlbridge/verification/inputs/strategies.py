"""Strategies: named ways to fill an input, each of which reaches something that the others do not.

Random numbers alone do not reach an epsilon, a tie, the last row of a table or a mask that is off everywhere. Each
strategy is one function of an input's role, a shape and a generator; it returns None for an input that it has nothing
to do with, which is then filled plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from dlbridge.verification.inputs import texts
from dlbridge.verification.inputs.roles import Role

#: Floats that become indices stay so far below the number of rows that float32 does not round them up to it.
_AWAY, _AWAY_OF_LARGE = 0.01, 2.0**-20
#: Plain integers that are neither index nor length are below this.
_PLAIN_BELOW = 2
#: The range of free integers, where the type has room for it.
_LOWEST, _HIGHEST = -40, 300
#: The size of what is next to nothing beside numbers around 1.
_QUIET = 1e-7
#: Larger integers, which are still numbers that people count up to.
_LARGER = 10**6
#: The share of the largest and smallest numbers of a type among those of its whole range.
_ENDS = 0.3
#: Types of at most this many values are filled with all of them.
_SMALL_TYPE = 256

Fill = Callable[[Role, tuple[int, ...], np.random.Generator], "np.ndarray | None"]


@dataclass(frozen=True)
class Strategy:
    """A named way to fill inputs.

    Attributes:
        name: What checks and certificates call it.
        fill: Returns the numbers of an input, or None where it has none of its own.
    """

    name: str
    fill: Fill

    def applies(self, role: Role) -> bool:
        """Whether it fills an input in its own way."""
        return self.numbers(role, (2, 2), np.random.default_rng(0)) is not None

    def numbers(self, role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        """The numbers of an input, or None where it has none of its own. Floats that become indices (an ``Embedding``
        after ``keras.Input((20,))``) stay within the rows of the table: what lies beyond, each framework takes in its
        own way, if at all."""
        found = self.fill(role, shape, generator)
        if found is None or role.rows is None or not role.is_float:
            return found
        return np.mod(found, _end(role.rows)) if np.isfinite(found).all() else None


def _end(rows: int) -> float:
    """The bound below which floats are indices of this many rows."""
    return rows - max(_AWAY, rows * _AWAY_OF_LARGE)


def plain(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Standard normal numbers, any row of a table, any length, 0 or 1, coin tosses; words, most of them known."""
    if role.text is not None:
        return texts.known(role.text, shape, generator)
    if role.value.dtype == ir.DataType.BOOL:
        return generator.random(shape) < 0.5
    if role.steps is not None:
        return -np.sort(-generator.integers(1, role.steps + 1, shape))  # the longest first, as some models require
    if role.is_integer:
        least = max(0, min(role.least, (role.rows or _PLAIN_BELOW) - 1))
        return generator.integers(least, role.rows or _PLAIN_BELOW, shape)
    if role.rows is not None:  # a table of features as floats, of which some are cast to indices
        return generator.random(shape) * _end(role.rows)
    return generator.standard_normal(shape)


def _all_of(
    numbers: Sequence[float] | np.ndarray, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """These numbers in a random order, again and again: few places hold as many of them as can be."""
    return np.resize(generator.permutation(np.asarray(numbers)), shape)


def _written(fill: texts.Fill) -> Fill:
    """Strings, for an input that holds such."""

    def filled(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        return None if role.text is None else fill(role.text, shape, generator)

    return filled


def _scaled(factor: float) -> Fill:
    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        return generator.standard_normal(shape) * factor if role.is_float else None

    return fill


def _zeros(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return np.zeros(shape) if role.is_float or role.is_free_integer else None


def _negative(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return -np.abs(generator.standard_normal(shape)) if role.is_float else None


def _positive(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return generator.random(shape) if role.is_float else None


def _halves(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Numbers halfway between two integers, which show how halves are rounded."""
    return _all_of([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], shape, generator) if role.is_float else None


def _ties(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Few different numbers: an arg-max, a sort and a maximum have to choose between equals."""
    return generator.integers(-1, 2, shape).astype(np.float64) if role.is_float else None


def _mixture(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Numbers of several sizes beside each other: an epsilon, a cut and a saturated activation in one row."""
    if not role.is_float:
        return None
    sizes = generator.choice([0.0, 1e-3, 1.0, 4.0, 30.0], shape)
    return sizes * generator.standard_normal(shape)


def _edges(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """The constants that the graph compares with, and their neighbours."""
    if not role.edges or role.rows is not None or role.steps is not None:
        return None
    edges = np.asarray(role.edges)
    step = 1.0 if role.is_integer else 0.01
    around = np.concatenate([edges - step, edges, edges + step])
    return _all_of(np.trunc(around) if role.is_integer else around, shape, generator)


def _wide(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Integers from all of the type's range, or from a wide part of it."""
    if not role.is_free_integer or role.value.dtype is None:
        return None
    info = ml_dtypes.iinfo(role.value.dtype.numpy())
    low, high = (info.min, info.max) if info.max - info.min < _SMALL_TYPE else (_LOWEST, _HIGHEST)
    return generator.integers(max(low, info.min), min(high, info.max) + 1, shape)


def _larger(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Integers of three to six digits, which float32 holds and float16 does not: times, prices, counts."""
    if not role.is_free_integer or role.decides_sizes or role.value.dtype is None:
        return None
    most = float(min(ml_dtypes.iinfo(role.value.dtype.numpy()).max, _LARGER))
    return np.trunc(most ** generator.uniform(0.4, 1.0, shape))


def _whole_range(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Integers of every number of digits that the type has, the largest and the smallest, and powers of two."""
    if not role.is_free_integer or role.decides_sizes or role.value.dtype is None:
        return None
    dtype = np.dtype(role.value.dtype.numpy())
    if dtype.itemsize < 2:
        return None  # the wide integers are all that there are
    info = np.iinfo(dtype)
    least = max(info.min, -info.max)  # the smallest number divided by -1 ends a process
    drawn = generator.integers(least, info.max, shape, dtype, endpoint=True)
    found = drawn >> generator.integers(0, info.bits, shape).astype(dtype)
    ends = _all_of(np.array([info.max, least, 1 << (info.bits // 2)], dtype), shape, generator)
    return np.where(generator.random(shape) < _ENDS, ends, found)


def _spread(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Numbers from all of the range in which activations bend, and of every size around it."""
    if not role.is_float:
        return None
    sizes = 10.0 ** generator.uniform(-4, 1.5, shape) * generator.choice([-1.0, 1.0], shape)
    return np.where(generator.random(shape) < 0.5, sizes, generator.uniform(-12, 12, shape))


def _each_row(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Every row of a table as often as any other, in a random order."""
    return np.resize(generator.permutation(role.rows), shape) if role.rows is not None and role.is_integer else None


def _each_number(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """0, 1, 2, ... in each place of a row, as far as there are rows, in a random order: ids that are made indices."""
    if not role.is_free_integer or role.decides_sizes or not shape:
        return None
    counted = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return generator.permuted(np.broadcast_to(counted, shape), axis=0)


def _counted(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """0, 1, 2, ... along the last axis: positions, and every row of a table where it is short."""
    if not role.is_integer or role.steps is not None:
        return None
    count = np.arange(shape[-1] if shape else 1) % (role.rows or _SMALL_TYPE // 2)
    return np.broadcast_to(count, shape) if shape else np.asarray(1 % (role.rows or 2))


def _first_and_last_rows(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return _all_of([0, role.rows - 1], shape, generator) if role.rows is not None else None


def _alike(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """The number of its row in every place: the same in all inputs, and, in a second row, once more."""
    if not role.is_integer or role.steps is not None or role.decides_sizes or not shape:
        return None
    numbers = (np.arange(shape[0]) * 2 // 3) % (role.rows or _SMALL_TYPE // 2)
    return np.broadcast_to(numbers.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _sorted(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Normal numbers that grow along the last axis, and fall in every other row."""
    if not role.is_float or not shape:
        return None
    found = np.sort(generator.standard_normal(shape), axis=-1)
    if len(shape) > 1:
        found[1::2] = found[1::2, ..., ::-1]
    return found


def _negative_rows(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Indices that count from the end, where the graph's tables take them."""
    if role.rows is None or not role.takes_negative:
        return None
    return generator.integers(-role.rows, 0, shape)


def _partly_quiet(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Rows that are next to nothing from some place of the last axis on: what a maximum over them cuts off."""
    if not role.is_float or not shape:
        return None
    loud = np.arange(shape[-1]) < generator.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return np.where(loud, 3.0, _QUIET) * generator.standard_normal(shape)


def _padded(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Indices with those that the graph compares with (a padding, an end) in any number of places of each row: behind
    the others, before them, and among them."""
    compared = [edge for edge in role.edges if role.rows is not None and 0 <= edge < role.rows]
    if not compared or not role.is_integer or len(shape) < 2:
        return None
    places = np.broadcast_to(np.arange(shape[-1]), shape).copy()
    places[1::3] = places[1::3, ..., ::-1]
    places[2::3] = generator.permuted(places[2::3], axis=-1)
    count = generator.integers(0, shape[-1] + 1, (*shape[:-1], 1))
    return np.where(places < count, generator.integers(0, role.rows, shape), generator.choice(compared, shape))


def _negative_at(place: int) -> Fill:
    """Indices of which those at one end of the first axis count from the end: the sources of edges, and not their
    targets."""

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        if role.rows is None or role.takes_negative or not role.is_gathered or len(shape) < 2:
            return None
        found = generator.integers(0, role.rows, shape)
        found[place] -= role.rows
        return found

    return fill


def _longest(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return np.full(shape, role.steps) if role.steps is not None else None


def _shortest(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return np.ones(shape, int) if role.steps is not None else None


def is_switch(role: Role) -> bool:
    """Whether an input may be a mask: one that the graph uses as such, or a free integer."""
    return role.is_mask or role.is_free_integer


def _on(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return np.ones(shape) if is_switch(role) else None


def _off(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    return np.zeros(shape) if is_switch(role) else None


def _ragged(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Ones up to a different place in each row, then zeros: a mask of sequences that are padded on the right."""
    if not is_switch(role) or not shape:
        return None
    last = generator.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return (np.arange(shape[-1]) < last).astype(np.float64)


def _padded_left(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Ones from a different place on in each row: a mask of prompts that are padded on the left."""
    if not is_switch(role) or not shape:
        return None
    first = generator.integers(0, shape[-1], (*shape[:-1], 1))
    return (np.arange(shape[-1]) >= first).astype(np.float64)


def _one_full(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """A mask with ones in the whole first row, and in the first place of the others."""
    if not is_switch(role) or not shape:
        return None
    found = np.zeros(shape)
    found[..., 0] = 1
    found[0] = 1
    return found


def _with(
    role: Role, special: list[float], shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray | None:
    """Normal numbers, of which some are others: a fifth, and each of those at least once where there is room."""
    if not role.is_float:
        return None
    found = generator.standard_normal(shape)
    size = min(max(len(special), found.size // 5), max(found.size - 1, 1))
    places = generator.permutation(found.size)[:size]
    found.reshape(-1)[places] = np.resize(special, len(places))
    return found


def _not_finite(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Infinities and NaN among other numbers."""
    return _with(role, [np.inf, -np.inf, np.nan], shape, generator)


def _infinite(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Infinities among other numbers."""
    return _with(role, [np.inf, -np.inf], shape, generator)


PLAIN = Strategy("plain", plain)
EACH_ROW = Strategy("each row", _each_row)
EACH_NUMBER = Strategy("each number", _each_number)
LARGER = Strategy("larger integers", _larger)
WHOLE_RANGE = Strategy("whole range", _whole_range)
PADDED = Strategy("padded", _padded)
ON = Strategy("on", _on)
#: In the order in which a set of inputs with few rows takes them.
STRATEGIES = (
    Strategy("small", _scaled(1e-3)),
    Strategy("mixture", _mixture),
    Strategy("every word", _written(texts.every_word)),
    Strategy("unknown words", _written(texts.unknown_words)),
    Strategy("spaces", _written(texts.spaces)),
    Strategy("empty strings", _written(texts.empty)),
    Strategy("Unicode", _written(texts.unicode)),
    Strategy("first and last rows", _first_and_last_rows),
    Strategy("edges", _edges),
    Strategy("ragged", _ragged),
    Strategy("halves", _halves),
    Strategy("large", _scaled(30.0)),
    Strategy("counted", _counted),
    Strategy("wide integers", _wide),
    Strategy("ties", _ties),
    Strategy("zeros", _zeros),
    ON,
    Strategy("off", _off),
    Strategy("one row full", _one_full),
    Strategy("padded left", _padded_left),
    Strategy("longest", _longest),
    Strategy("shortest", _shortest),
    Strategy("negative", _negative),
    Strategy("positive", _positive),
    Strategy("negative rows", _negative_rows),
    Strategy("spread", _spread),
    Strategy("tiny", _scaled(1e-6)),
    Strategy("huge", _scaled(1e3)),
    Strategy("enormous", _scaled(3e4)),
    WHOLE_RANGE,
    Strategy("infinite", _infinite),
    Strategy("not finite", _not_finite),
    PADDED,
    Strategy("partly quiet", _partly_quiet),
    Strategy("alike", _alike),
    Strategy("negative at the first", _negative_at(0)),
    Strategy("negative at the last", _negative_at(-1)),
    Strategy("sorted", _sorted),
)
#: Strategies whose numbers are not finite: for a model that gives finite ones for them.
NOT_FINITE = frozenset({"infinite", "not finite"})
#: Strategies that only ``verify`` tries: a model in use seldom meets such inputs, and frameworks differ in them.
THOROUGH_ONLY = frozenset(
    {"negative rows", "negative at the first", "negative at the last", "spread", "tiny", "huge", "enormous"}
    | {"whole range", "partly quiet", "alike", "sorted", *NOT_FINITE}
)
#: Strategies that share the many rows of one set of inputs: all but those whose rounding would hide that of the others.
MIXED = tuple(s for s in STRATEGIES if s.name not in THOROUGH_ONLY or s.name == "spread")
