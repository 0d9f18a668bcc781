"""The functions by which formulas of training are computed: named and called as NumPy's, on Keras' tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def __getattr__(name: str) -> Any:
    """Everything else is Keras' own."""
    return getattr(ops, name)


def arange(count: int, like: Any) -> Any:
    """0, 1, 2, ..., where another tensor is."""
    return ops.arange(count)


def argmax(x: Any, axis: int) -> Any:
    return ops.cast(ops.argmax(x, axis=axis), "int64")


def cast(x: Any, like: Any) -> Any:
    """The numbers in another tensor's type."""
    return ops.cast(x, like.dtype)


def integer(x: Any) -> Any:
    return ops.cast(x, "int64")


def count(x: Any) -> Any:
    """Numbers that are summed up exactly, of what is true or not."""
    return ops.cast(x, "float64")


def size(x: Any) -> Any:
    """The number of elements."""
    return ops.cast(ops.prod(ops.shape(x)), "float64")


def sum_type(x: Any) -> Any:
    """The numbers in the type in which metrics are summed up."""
    return ops.cast(x, "float64")


def constant(values: Any, like: Any) -> Any:
    return ops.convert_to_tensor(values, dtype=like.dtype)


def one_hot(x: Any, count: int) -> Any:
    """Rows of 0 and 1, which are summed up exactly."""
    return ops.one_hot(ops.cast(x, "int32"), count, dtype="float64")


def pick(x: Any, labels: Any) -> Any:
    """The number of each label on the last axis."""
    return ops.sum(ops.one_hot(ops.cast(labels, "int32"), x.shape[-1], dtype=x.dtype) * x, axis=-1)


def group_norms(x: Any, groups: np.ndarray) -> Any:
    """The norm of each element's group, whose number ``groups`` has in its place."""
    numbers = ops.convert_to_tensor(groups.reshape(-1), dtype="int32")
    sums = ops.segment_sum(ops.reshape(x * x, (-1,)), numbers, int(groups.max()) + 1)
    return ops.reshape(ops.take(ops.sqrt(sums), numbers), x.shape)
