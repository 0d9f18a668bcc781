"""The functions by which formulas of training are computed: NumPy's, on JAX's arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

log_softmax, sigmoid = jax.nn.log_softmax, jax.nn.sigmoid
logsumexp = jax.scipy.special.logsumexp


def __getattr__(name: str) -> Any:
    """Everything else is JAX' own."""
    return getattr(jnp, name)


def abs(x: Any) -> Any:
    """The size of a number, whose derivative at 0 is 0; JAX' own has 1 there."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def arange(count: int, like: Any) -> Any:
    """0, 1, 2, ..., where another tensor is."""
    return jnp.arange(count)


def cast(x: Any, like: Any) -> Any:
    """The numbers in another array's type."""
    return x.astype(like.dtype)


def like(x: Any, other: Any) -> Any:
    """The numbers in another array's type, to be compared with it."""
    return x.astype(other.dtype)


def integer(x: Any) -> Any:
    return x.astype(int)


def count(x: Any) -> Any:
    """Numbers that are summed up exactly, of what is true or not."""
    return x.astype(jnp.float64)


def size(x: Any) -> float:
    """The number of elements."""
    return float(x.size)


def sum_type(x: Any) -> Any:
    """The numbers in the type in which metrics are summed up."""
    return x.astype(jnp.float64)


def constant(values: Any, like: Any) -> Any:
    return jnp.asarray(values, like.dtype)


def one_hot(x: Any, count: int) -> Any:
    """Rows of 0 and 1, which are summed up exactly."""
    return (jnp.expand_dims(x, -1) == jnp.arange(count)).astype(jnp.float64)


def pick(x: Any, labels: Any) -> Any:
    """The number of each label on the last axis."""
    return jnp.take_along_axis(x, labels[..., None].astype(int), axis=-1)[..., 0]


def take_along_axis(x: Any, places: Any, axis: int) -> Any:
    return jnp.take_along_axis(x, places.astype(int), axis=axis)
