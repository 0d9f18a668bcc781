"""Data that is not in memory: batches that are made while a model is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.training.data import Augment, Batch, Dataset, seed_of
from dlbridge.training.datasets.ahead import made_ahead
from dlbridge.training.datasets.batch_sizes import refuse_one_row
from dlbridge.training.datasets.rows import Arrays, Names, Part, named
from dlbridge.training.spec import TrainingSpec


class Batches:
    """Batches that the user's code makes: a PyTorch ``DataLoader``, a ``tf.data.Dataset``, a function that returns a
    generator, a list. Their order and sizes stay as they are.

    Args:
        source: What is iterated over, once for each epoch.
        names: What their parts are called, where they are tuples.

    Raises:
        TrainingError: When it can be iterated over once alone.
    """

    def __init__(self, source: Any, names: Names) -> None:
        if hasattr(source, "__next__"):
            raise TrainingError(
                f"a {type(source).__name__} can be read once alone, training reads it for each epoch",
                hint="give the function that makes it: data=batches in place of data=batches()",
            )
        self._source, self._names = source, names
        self._count: int | None = None

    def __iter__(self) -> Iterator[Arrays]:
        made = self._source() if callable(self._source) and not hasattr(self._source, "__iter__") else self._source
        for batch in made:
            yield named(batch, self._names)

    @property
    def count(self) -> int:
        """The number of batches; where it is not known, they are read once to be counted."""
        if self._count is None:
            try:
                self._count = len(self._source)
            except TypeError:
                self._count = sum(1 for _ in self)
        return self._count


@dataclass
class Stream:
    """Batches that are made one after the other. What trains reads them as those of a ``Dataset``.

    Attributes:
        source: The rows, or the batches of somebody else.
        spec: The batch size, and the order of the rows.
        bound: Turns the arrays of a batch into what the model takes.
        augment: Changes the inputs of a batch in training.
        workers: The threads that make batches ahead.
        one_row: The name of a batch normalization that no batch of one row can train; None where there is none.
        number: The number of the epoch.
        steps: The learning rate and the other numbers of each batch's step; empty if nothing is trained.
    """

    source: Part | Batches
    spec: TrainingSpec
    bound: Callable[[Arrays], Dataset]
    augment: Augment | None = None
    workers: int = 0
    one_row: str | None = None
    number: int | None = None
    steps: tuple[dict[str, float], ...] = ()

    #: Whether there are no arrays of all rows.
    is_stream = True

    @property
    def count(self) -> int:
        """The number of batches."""
        if isinstance(self.source, Batches):
            return self.source.count
        return -(-len(self.source) // self.spec.batch_size)

    @property
    def seed(self) -> int:
        """The seed of the epoch's random numbers."""
        return seed_of(self.spec, self.number)

    def epoch(self, number: int, steps: Iterable[dict[str, float]] = ()) -> Stream:
        """The batches of an epoch: of rows, in an order that is drawn from (seed, epoch)."""
        return replace(self, number=number, steps=tuple(steps))

    def batches(self, convert: Callable[[np.ndarray], Any] | None = None) -> Iterator[Batch]:
        """One batch after the other, its arrays as ``convert`` makes them.

        Raises:
            TrainingError: When there are more or fewer than was said.
        """
        place = 0
        for place, batch in enumerate(made_ahead(self._parts(), self._batch, self.workers), 1):
            if place > self.count:
                break
            yield batch if convert is None else batch.converted(convert)
        if place != self.count:
            raise TrainingError(
                f"the data had {self.count} batches, and gives {'more' if place > self.count else place} in an epoch",
                hint="every epoch needs as many",
            )

    def _batch(self, part: tuple[int, Any]) -> Batch:
        """The batch of a place, of its arrays or of the numbers of its rows."""
        place, given = part
        arrays = self.source.rows.take(given) if isinstance(self.source, Part) else given
        batch = self.bound(arrays).only_batch
        if batch.rows == 1:
            refuse_one_row(f"batch {place}", self.one_row)
        if self.augment is None:
            return batch
        return batch._replace(inputs=self.augment(batch.inputs, (self.spec.seed, self.number or 0, place)))

    def _parts(self) -> Iterator[tuple[int, Any]]:
        """The place of each batch, from 1, and its arrays or the numbers of its rows."""
        if isinstance(self.source, Batches):
            yield from enumerate(self.source, 1)
            return
        numbers, size = self.source.numbers, self.spec.batch_size
        if self.number is not None and self.spec.shuffle:
            numbers = self.source.rows.order(np.random.default_rng([self.spec.seed, self.number]), numbers)
        for place, start in enumerate(range(0, len(numbers), size), 1):
            yield place, numbers[start : start + size]
