"""Training data in memory: arrays for a model's inputs and its targets, in the same batches for every framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dlbridge.training.datasets.ahead import made_ahead
from dlbridge.training.datasets.rows import Arrays
from dlbridge.training.spec import TrainingSpec

#: What training data may be: see ``dlbridge.training.datasets.opening``.
Source = Any
#: (inputs of a batch, seed) -> the inputs that a model is trained on.
Augment = Callable[[Arrays, tuple[int, ...]], Arrays]


class Batch(NamedTuple):
    """The rows of one step, and their share in its gradient where other processes have rows of it too."""

    inputs: dict[str, Any]
    targets: tuple[Any, ...]
    weights: tuple[Any, ...]
    rows: int
    share: float = 1.0

    def converted(self, convert: Callable[[np.ndarray], Any]) -> Batch:
        """The same with every array as a framework's tensor."""
        return Batch(
            {name: convert(array) for name, array in self.inputs.items()},
            tuple(convert(array) for array in self.targets),
            tuple(None if array is None else convert(array) for array in self.weights),
            self.rows,
        )


def seed_of(spec: TrainingSpec, number: int | None) -> int:
    """The seed of an epoch's random numbers; an epoch that is resumed has the same."""
    return int(np.random.SeedSequence([spec.seed, number or 0]).generate_state(1)[0])


def joined(parts: Iterable[Dataset]) -> Dataset:
    """The rows of several datasets, one after the other."""
    several = list(parts)
    first = several[0]

    def whole(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    return replace(
        first,
        inputs={name: whole([part.inputs[name] for part in several]) for name in first.inputs},
        targets=tuple(whole(arrays) for arrays in zip(*(part.targets for part in several), strict=True)),
        weights=tuple(
            None if arrays[0] is None else whole(arrays)
            for arrays in zip(*(part.weights for part in several), strict=True)
        ),
    )


@dataclass
class Dataset:
    """A model's inputs and the targets of its losses, row by row.

    Attributes:
        inputs: Input name -> array; the first axis counts rows.
        targets: The array that each loss compares with.
        weights: The weight of each row for each loss; None where all are 1.
        spec: The batch size and the order of the rows.
        names: The names of the targets in the data.
        augment: Changes the inputs of a batch in training.
        workers: The threads that change inputs ahead.
        number: The number of the epoch, which decides the order of the rows.
        steps: The learning rate and the other numbers of each batch's step; empty if nothing is trained.
    """

    inputs: Arrays
    targets: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray | None, ...]
    spec: TrainingSpec
    names: tuple[str, ...] = ()
    augment: Augment | None = None
    workers: int = 0
    number: int = 0
    steps: tuple[dict[str, float], ...] = ()

    @property
    def rows(self) -> int:
        return len(self.targets[0])

    @property
    def count(self) -> int:
        """The number of batches."""
        return -(-self.rows // self.spec.batch_size)

    @property
    def seed(self) -> int:
        """The seed of the epoch's random numbers."""
        return seed_of(self.spec, self.number)

    @property
    def is_stream(self) -> bool:
        """Whether batches must be asked for: the arrays are not yet what a model is trained on."""
        return self.augment is not None

    @property
    def only_batch(self) -> Batch:
        """All rows as one batch."""
        return Batch(self.inputs, self.targets, self.weights, self.rows)

    def _rows(self, rows: Any) -> Dataset:
        return replace(
            self,
            inputs={name: array[rows] for name, array in self.inputs.items()},
            targets=tuple(array[rows] for array in self.targets),
            weights=tuple(array[rows] if array is not None else None for array in self.weights),
        )

    def chosen(self, numbers: np.ndarray) -> Dataset:
        """Some of the rows; without a copy if they are consecutive."""
        is_run = len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers) and (np.diff(numbers) == 1).all()
        return self._rows(slice(int(numbers[0]), int(numbers[-1]) + 1) if is_run else numbers)

    def epoch(self, number: int, steps: Iterable[dict[str, float]] = ()) -> Dataset:
        """The rows in the order of an epoch: shuffled by (seed, epoch), in the same way for every framework."""
        order = np.random.default_rng([self.spec.seed, number]).permutation(self.rows)
        rows = self._rows(order) if self.spec.shuffle else self
        return replace(rows, number=number, steps=tuple(steps))

    def batches(self, convert: Callable[[np.ndarray], Any] | None = None) -> Iterator[Batch]:
        """One batch after the other, its arrays as ``convert`` makes them; the last may be smaller."""
        size = self.spec.batch_size
        whole = self.only_batch
        if convert is not None and self.augment is None:  # of views of one tensor, a batch costs least
            whole, convert = whole.converted(convert), None

        def batch(part: tuple[int, int]) -> Batch:
            place, start = part
            rows = slice(start, start + size)
            inputs = {name: array[rows] for name, array in whole.inputs.items()}
            if self.augment is not None:
                inputs = self.augment(inputs, (self.spec.seed, self.number, place))
            return Batch(
                inputs,
                tuple(array[rows] for array in whole.targets),
                tuple(array[rows] if array is not None else None for array in whole.weights),
                min(size, self.rows - start),
            )

        places = enumerate(range(0, self.rows, size), 1)
        for made in made_ahead(places, batch, self.workers if self.augment is not None else 0):
            yield made if convert is None else made.converted(convert)
