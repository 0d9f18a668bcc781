"""Rows of data that are taken by their numbers: in memory, or made when they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dlbridge.errors import TrainingError

Arrays = dict[str, np.ndarray]


class Names(NamedTuple):
    """What the parts of a row are called, where they come without names: (inputs, targets, weights).

    Attributes:
        inputs: The inputs of the model, in their order.
        targets: The targets of the losses.
        weights: The weights of rows.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    weights: tuple[str, ...]


class Rows:
    """Rows by number.

    Attributes:
        names: The names of their parts.
        size: About how many bytes all of them take in memory.
        is_sorted: Whether rows are sorted by class, so that the last ones are not representative.
        labels: Name of a part -> the names of its classes, where the data says them.
    """

    names: tuple[str, ...] = ()
    size: int = 0
    is_sorted: bool = False
    labels: Mapping[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, rows: np.ndarray) -> Arrays:
        """The rows of these numbers, in this order."""
        raise NotImplementedError

    def column(self, name: str) -> np.ndarray:
        """One part of all rows."""
        return self.take(np.arange(len(self)))[name]

    def order(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        """The numbers of all rows in a random order."""
        return rows[rng.permutation(len(rows))]


class ArrayRows(Rows):
    """Rows of arrays in memory."""

    def __init__(self, arrays: Arrays, labels: Mapping[str, tuple[str, ...]] | None = None) -> None:
        lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise TrainingError(f"the arrays have different numbers of rows: {lengths}")
        self.arrays, self._count = arrays, max(lengths.values(), default=0)
        self.names = tuple(arrays)
        self.labels = labels or {}

    def __len__(self) -> int:
        return self._count

    def take(self, rows: np.ndarray) -> Arrays:
        return {name: array[rows] for name, array in self.arrays.items()}

    def column(self, name: str) -> np.ndarray:
        return self.arrays[name]


class ItemRows(Rows):
    """Rows of an object that has ``len`` and gives one by its number, as PyTorch's ``Dataset`` does."""

    def __init__(self, items: Any, names: Names) -> None:
        self._items, self._given = items, names
        self._count = len(items)
        first = self.take(np.arange(min(1, self._count)))
        self.names = tuple(first)
        self.size = self._count * sum(array.nbytes for array in first.values())

    def __len__(self) -> int:
        return self._count

    def take(self, rows: np.ndarray) -> Arrays:
        items = [named(self._items[int(row)], self._given) for row in rows]
        return {name: stacked([item[name] for item in items]) for name in (items[0] if items else ())}


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The arrays as one; where their shapes differ, an array of arrays."""
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    found = np.empty(len(arrays), object)
    found[:] = list(arrays)
    return found


def named(given: Any, names: Names) -> Arrays:
    """A row or a batch that somebody made, as arrays by name: a dict, or a tuple (inputs, target, weights).

    Raises:
        TrainingError: When it is neither, or has other parts.
    """
    if isinstance(given, Mapping):
        return {str(name): array_of(array) for name, array in given.items()}
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= 3:
        raise TrainingError(
            f"a {type(given).__name__} is no row or batch of training",
            hint="give a dict of arrays by name, or a tuple (inputs, target) or (inputs, target, weights)",
        )
    found: Arrays = {}
    parts = (("inputs", names.inputs), ("targets", names.targets), ("weights of rows", names.weights))
    for part, (what, wanted) in zip(given, parts, strict=False):
        if isinstance(part, Mapping):
            found |= {str(name): array_of(array) for name, array in part.items()}
            continue
        is_several = isinstance(part, tuple) or (isinstance(part, list) and len(wanted) != 1)
        several = list(part) if is_several else [part]
        if len(several) != len(wanted):
            told = f"{len(several)} {what} are given, there are {len(wanted)}"
            raise TrainingError(told, hint=f"they are: {', '.join(wanted) or 'none, say sample_weight of the loss'}")
        found |= {name: array_of(array) for name, array in zip(wanted, several, strict=True)}
    return found


def array_of(given: Any) -> np.ndarray:
    """A tensor of any framework, an image or a number as an array."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    return np.asarray(given)


@dataclass(frozen=True)
class Part:
    """Some of the rows: those that are trained on, or those that validate."""

    rows: Rows
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def all(self) -> Arrays:
        """All of them, in their order."""
        return self.rows.take(self.numbers)

    def chunks(self, size: int) -> Iterator[Arrays]:
        """The rows in chunks of this many, in order."""
        for start in range(0, len(self.numbers), size):
            yield self.rows.take(self.numbers[start : start + size])

    def column(self, name: str) -> np.ndarray:
        return self.rows.column(name)[self.numbers]


def split(rows: Rows, share: float, target: str | None) -> tuple[Part, Part | None]:
    """Split rows into those to train on and those to validate on, which are the last ones.

    Args:
        rows: All of them.
        share: The share that validates.
        target: The part with the classes, each of which is split by this share: the last rows of every class validate.
            When None, the last rows of all validate.

    Raises:
        TrainingError: When either would have no rows.
    """
    numbers = np.arange(len(rows))
    if share == 0:
        return Part(rows, numbers), None
    if target is None:
        kept = math.floor(len(rows) * (1 - share))  # as Keras counts
        is_held = numbers >= kept
    else:
        is_held = _last_of_each(rows.column(target), share, target)
    if is_held.all():
        raise TrainingError(f"a validation_split of {share} leaves no rows to train on")
    if not is_held.any():
        raise TrainingError(f"a validation_split of {share} holds back none of {len(rows)} rows")
    return Part(rows, numbers[~is_held]), Part(rows, numbers[is_held])


def _last_of_each(labels: np.ndarray, share: float, target: str) -> np.ndarray:
    """Whether each row is one of the last of its class."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        labels = labels.argmax(1)
    if labels.ndim != 1 or (labels.dtype.kind == "f" and (labels != np.floor(labels)).any()):
        raise TrainingError(
            "a stratified split is of classes, one for each row", where=target, hint="leave out 'stratify'"
        )
    is_held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        is_held[places[round(len(places) * (1 - share)) :]] = True
    return is_held
