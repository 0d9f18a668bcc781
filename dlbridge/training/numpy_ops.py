"""The functions by which formulas of training are computed, of NumPy: outputs of any model are measured by them."""

from __future__ import annotations

from typing import Any

import numpy as np


def __getattr__(name: str) -> Any:
    """Everything else is NumPy's own."""
    return getattr(np, name)


def arange(count: int, like: Any) -> Any:
    """0, 1, 2, ..., where another array is."""
    return np.arange(count)


def cast(x: Any, like: Any) -> Any:
    """The numbers in another array's type."""
    return x.astype(like.dtype)


def like(x: Any, other: Any) -> Any:
    """The numbers in another array's type, to be compared with it."""
    return x.astype(other.dtype)


def integer(x: Any) -> Any:
    return x.astype(np.int64)


def count(x: Any) -> Any:
    """Numbers that are summed up exactly, of what is true or not."""
    return np.asarray(x, np.float64)


def size(x: Any) -> float:
    """The number of elements."""
    return float(x.size)


def sum_type(x: Any) -> Any:
    """The numbers in the type in which metrics are summed up."""
    return x.astype(np.float64)


def constant(values: Any, like: Any) -> Any:
    return np.array(values, like.dtype)


def one_hot(x: Any, count: int) -> Any:
    """Rows of 0 and 1, which are summed up exactly."""
    return (np.expand_dims(x, -1) == np.arange(count)).astype(np.float64)


def pick(x: Any, labels: Any) -> Any:
    """The number of each label on the last axis."""
    return np.take_along_axis(x, np.expand_dims(labels.astype(np.int64), -1), axis=-1)[..., 0]


def take(x: Any, places: Any, axis: int) -> Any:
    return np.take(x, places.astype(np.int64).reshape(-1), axis=axis).reshape(places.shape)


def sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(0, -x))


def logsumexp(x: Any, axis: int) -> Any:
    largest = np.max(x, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    return np.log(np.sum(np.exp(x - largest), axis=axis)) + np.squeeze(largest, axis)


def log_softmax(x: Any, axis: int) -> Any:
    return x - np.expand_dims(logsumexp(x, axis), axis)
