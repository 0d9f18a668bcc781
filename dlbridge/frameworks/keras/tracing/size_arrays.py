# ruff: noqa: N803 (the names of arguments are Keras' own)
"""Arrays that ``keras.ops`` makes of sizes alone, in operations that are recorded: their sizes are not known yet."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = None) -> Any:
    """Ones at and below a diagonal."""
    rows, columns = _places(N, M, k)
    return ops.cast(ops.greater_equal(rows, columns), dtype or keras.config.floatx())


def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = None) -> Any:
    """Ones on a diagonal."""
    rows, columns = _places(N, M, k)
    return ops.cast(ops.equal(rows, columns), dtype or keras.config.floatx())


def identity(n: Any, dtype: Any = None) -> Any:
    return eye(n, dtype=dtype)


def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Numbers at equal distances; None where an end is a tensor, or the distance is asked for."""
    if retstep or not all(isinstance(end, (int, float)) for end in (start, stop)):
        return None
    dtype = dtype or keras.config.floatx()
    steps = ops.maximum(ops.cast(num - 1 if endpoint else num, dtype), 1)
    return ops.cast(ops.arange(num), dtype) / steps * (stop - start) + start


def _places(rows: Any, columns: Any, k: Any) -> tuple[Any, Any]:
    """The number of each row, and that of each column, from which k is taken."""
    places = ops.expand_dims(ops.arange(rows if columns is None else columns), 0)
    return ops.expand_dims(ops.arange(rows), 1), ops.subtract(places, ops.cast(k, "int32"))
