"""Python literals as source text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlbridge.source.names import quoted

#: More elements than this that follow a rule are printed as a call that makes them.
MAX_REPEATED = 8


def is_repeated(array: np.ndarray) -> bool:
    """Whether an array is one number again and again, to the bit."""
    return array.size > MAX_REPEATED and array.tobytes() == np.full_like(array, array.flat[0]).tobytes()


def is_counted(array: np.ndarray) -> bool:
    """Whether the elements of an array are 0, 1, 2, ... in order, of a type that every framework counts in."""
    if array.size <= MAX_REPEATED or array.dtype.name not in ("int32", "int64", "float32", "float64"):
        return False
    return array.tobytes() == np.arange(array.size).astype(array.dtype).tobytes()


def literal_text(value: Any) -> str:
    """A Python literal as source text; numpy scalars and arrays become Python numbers and nested lists.

    Floats print as the shortest text that gives the same number *in their own type*.
    """
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return literal_text(value[()])
        return "[" + ", ".join(literal_text(v) for v in value) + "]"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, np.integer):
        return str(int(value))
    if isinstance(value, (float, np.floating)) or type(value).__module__ == "ml_dtypes":
        return _float_text(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(literal_text(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(literal_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal_text(k)}: {literal_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def _float_text(value: Any) -> str:
    if math.isnan(float(value)):
        return 'float("nan")'
    if math.isinf(float(value)):
        return 'float("inf")' if value > 0 else '-float("inf")'
    if isinstance(value, np.floating) and not isinstance(value, np.float64):
        shortest = float(str(value))
        fits = value.dtype.type(shortest) == value and abs(shortest) <= _largest(value)
        return repr(shortest if fits else float(value))
    return repr(float(value))


def _largest(value: np.floating) -> float:
    """The largest number of a float's type; the shortest text of that number may be a larger one, which overflows."""
    return float(np.finfo(value.dtype).max)


def single(value: float | int) -> float:
    """The shortest decimal that is the same float32: an attribute of 0.009999999776482582 was written as 0.01."""
    short = float(str(np.float32(value)))
    return short if math.isinf(short) or abs(short) <= _largest(np.float32(0)) else float(value)
