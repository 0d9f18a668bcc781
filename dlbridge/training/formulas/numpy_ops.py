"""The functions by which formulas of training are computed, of NumPy: outputs of any model are measured by them."""

from __future__ import annotations

from typing import Any

import numpy as np


class NumpyOps:
    """The functions of a library that is called as NumPy is, and those that formulas need beside them.

    Args:
        numpy: The library: ``numpy``, ``jax.numpy``.
    """

    def __init__(self, numpy: Any) -> None:
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        """Everything else is the library's own."""
        return getattr(self._numpy, name)

    def arange(self, count: int, like: Any) -> Any:
        """0, 1, 2, ..., where another array is."""
        return self._numpy.arange(count)

    def cast(self, x: Any, like: Any) -> Any:
        """The numbers in another array's type."""
        return x.astype(like.dtype)

    def integer(self, x: Any) -> Any:
        return x.astype(int)

    def count(self, x: Any) -> Any:
        """Numbers that are summed up exactly, of what is true or not."""
        return self._numpy.asarray(x, self._numpy.float64)

    def size(self, x: Any) -> float:
        """The number of elements."""
        return float(x.size)

    def sum_type(self, x: Any) -> Any:
        """The numbers in the type in which metrics are summed up."""
        return x.astype(self._numpy.float64)

    def constant(self, values: Any, like: Any) -> Any:
        return self._numpy.asarray(values, like.dtype)

    def one_hot(self, x: Any, count: int) -> Any:
        """Rows of 0 and 1, which are summed up exactly."""
        return self.count(self._numpy.expand_dims(x, -1) == self._numpy.arange(count))

    def pick(self, x: Any, labels: Any) -> Any:
        """The number of each label on the last axis."""
        return self.take_along_axis(x, self._numpy.expand_dims(labels, -1), axis=-1)[..., 0]

    def take(self, x: Any, places: Any, axis: int) -> Any:
        return self._numpy.take(x, places.astype(int), axis=axis)

    def take_along_axis(self, x: Any, places: Any, axis: int) -> Any:
        return self._numpy.take_along_axis(x, places.astype(int), axis=axis)

    def sigmoid(self, x: Any) -> Any:
        return np.exp(-np.logaddexp(0, -x))

    def logsumexp(self, x: Any, axis: int) -> Any:
        largest = np.max(x, axis=axis, keepdims=True)
        largest = np.where(np.isfinite(largest), largest, 0)
        return np.log(np.sum(np.exp(x - largest), axis=axis)) + np.squeeze(largest, axis)

    def log_softmax(self, x: Any, axis: int) -> Any:
        return x - np.expand_dims(self.logsumexp(x, axis), axis)


NUMPY = NumpyOps(np)
