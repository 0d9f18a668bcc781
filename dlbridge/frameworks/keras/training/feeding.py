"""Hands data to ``fit`` and ``evaluate``: a pipeline of TensorFlow that is made once, or a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

#: (inputs, targets) of a dataset or of a batch.
Arrays = Callable[[Any], tuple[Any, list[Any]]]


class Feed:
    """The data of one epoch after the other, as arguments of ``fit``.

    Keras makes a pipeline of arrays anew in each ``fit``, which costs as much as several steps. Here the pipeline is
    made once, and reads variables that are given the rows of an epoch in their order.

    Args:
        size: The rows of a batch.
        arrays: The parts of a dataset or of a batch.
    """

    def __init__(self, size: int, arrays: Arrays) -> None:
        self._size, self._arrays = size, arrays
        self._held: list[tf.Variable] = []
        self._given: list[np.ndarray] = []
        self._pipeline: Any = None

    @contextmanager
    def of(self, data: Any) -> Iterator[Any]:
        """What ``fit`` takes as ``x``. An error of data that is made on the way is raised as it is."""
        if not data.is_stream:
            yield self._of_arrays(data)
            return
        errors: list[Exception] = []

        def batches() -> Iterator[tuple[Any, Any]]:
            try:
                for batch in data.batches():
                    yield self._structured(*self._arrays(batch))
            except Exception as error:
                errors.append(error)
                raise

        try:
            yield batches()
        except Exception:
            if errors:  # TensorFlow has made an error of its own of it
                raise errors[0] from None
            raise

    def _of_arrays(self, data: Any) -> Any:
        inputs, targets = self._arrays(data)
        is_list = isinstance(inputs, list)
        given = [np.ascontiguousarray(array) for array in (*(inputs if is_list else [inputs]), *targets)]
        if self._pipeline is None or not _are_alike(given, self._given):
            with tf.device("CPU:0"):
                self._held = [tf.Variable(array, trainable=False) for array in given]
                self._pipeline = self._made(len(given[0]), len(inputs) if is_list else 0)
        else:
            for held, array, before in zip(self._held, given, self._given, strict=True):
                if array is not before:
                    held.assign(array)
        self._given = given
        return self._pipeline

    def _made(self, rows: int, inputs: int) -> Any:
        """The pipeline; ``inputs`` is their number, 0 for one that is in no list."""

        is_even = rows % self._size == 0

        def part(held: Any, start: Any) -> Any:
            if not is_even:
                return held[start : start + self._size]
            # all batches have the same rows: gradients need no shapes at run time, which costs a fifth in a long loop
            rest = held.shape[1:]
            return tf.slice(held, [start, *(0 for _ in rest)], [self._size, *rest])

        def batch(place: Any) -> tuple[Any, Any]:
            parts = [part(held, place * self._size) for held in self._held]
            return self._structured(parts[:inputs] if inputs else parts[0], parts[inputs or 1 :])

        count = -(-rows // self._size)
        return tf.data.Dataset.range(count).map(batch).prefetch(2)

    def _structured(self, inputs: Any, targets: list[Any]) -> tuple[Any, Any]:
        return tuple(inputs) if isinstance(inputs, list) else inputs, tuple(targets)


def _are_alike(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    kinds = [[(array.shape, array.dtype) for array in arrays] for arrays in (some, others)]
    return kinds[0] == kinds[1]
