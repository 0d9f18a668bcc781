"""The arrays that a form of the model has computed, in which others are looked up by their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dlbridge.verification.measure import Arrays

#: Equal numbers in float64, relative to the largest. Constants are kept in float32 by frameworks and in ONNX files.
EQUAL = 1e-6
#: Numbers below this part of the largest one are of another kind where none lie between that and the next part.
_FAR_BELOW, _NEAR = 1e-3, 0.1
#: The kinds of types whose numbers must be equal.
_WHOLE = "iub"
#: Arrays with more axes than this are compared without trying other orders of the axes.
_PERMUTED = 5


def tells(array: np.ndarray) -> bool:
    """Whether an array can be recognised by its numbers: floats, integers or truth values that are not all equal."""
    is_number = array.dtype == np.float64 or array.dtype.kind in _WHOLE
    return is_number and array.size > 1 and bool((array != array.flat[0]).any())


class Shown:
    """The arrays that a form of the model has computed, for looking up others by their numbers.

    Args:
        arrays: The arrays, in order.
        tolerance: What counts as the same number, relative to the largest one. Integers and truth values must be equal.

    Attributes:
        tolerance: As given.
    """

    def __init__(self, arrays: Sequence[np.ndarray], tolerance: float = EQUAL) -> None:
        self._by_size: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        self.tolerance = tolerance
        for place, array in enumerate(arrays):
            array = _number(array)
            self._by_size.setdefault(array.size, []).append((place, array, _marks(array)))

    def has(self, wanted: np.ndarray) -> bool:
        """Whether one of them has these numbers, in any shape and any order of the axes; or a mask's opposite."""
        is_mask = wanted.dtype == bool
        return self.place(wanted) is not None or (is_mask and self.place(~wanted) is not None)

    def place(self, wanted: np.ndarray) -> int | None:
        """The position of the first that has these numbers; None if there is none."""
        wanted, bound = _number(wanted), self.tolerance
        marks = _marks(wanted)
        for place, array, own in self._by_size.get(wanted.size, []):
            if np.allclose(marks, own, rtol=bound, atol=bound * marks[0]) and _same_numbers(array, wanted, bound):
                return place
        return None

    def instead(self, inputs: Arrays, right: Arrays) -> np.ndarray | None:
        """What was computed in the place of an output: the first array of its shape behind the inputs; None if there is
        none."""
        wanted = next(iter(right.values()))
        places = [self.place(array) for array in inputs.values() if tells(array)]
        last = max((place for place in places if place is not None), default=-1)
        for place, array, _ in self._by_size.get(wanted.size, []):
            is_alike = array.shape == wanted.shape and array.dtype.kind == wanted.dtype.kind
            if place > last and is_alike and tells(array):
                return array
        return None


def _number(array: np.ndarray) -> np.ndarray:
    """Integers and truth values as they are, all else as float64."""
    array = np.asarray(array)
    return array if array.dtype.kind in _WHOLE else array.astype(np.float64, copy=False)


def _marks(array: np.ndarray) -> np.ndarray:
    """The largest magnitude, maximum, minimum and mean: they do not depend on the order of the axes."""
    array = array.astype(np.float64, copy=False)
    finite = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(finite).max(initial=0.0)
    mean = finite.mean() if finite.size else 0.0
    return np.array([largest, finite.max(initial=-largest), finite.min(initial=largest), mean])


def _same_numbers(array: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    if equal(array.reshape(-1), wanted.reshape(-1), tolerance):
        return True
    for one, other in ((array, wanted), (wanted, array)):
        if 2 <= one.ndim <= _PERMUTED:
            for order in itertools.permutations(range(one.ndim)):
                if equal(one.transpose(order).reshape(-1), other.reshape(-1), tolerance):
                    return True
    return False


def equal(array: np.ndarray, wanted: np.ndarray, tolerance: float = EQUAL) -> bool:
    """Whether two arrays have the same shape and the same numbers."""
    if array.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(array, wanted))
    return bool(np.allclose(array, wanted, rtol=0.0, atol=tolerance * _scale(wanted), equal_nan=True))


def _scale(wanted: np.ndarray) -> np.ndarray:
    """What each number is compared relative to: the largest of the array; where a mask has put a few much larger ones
    beside the others, the largest of the others for these."""
    sizes = np.abs(np.where(np.isfinite(wanted), wanted, 0.0))
    largest = sizes.max(initial=0.0)
    is_small = sizes <= _FAR_BELOW * largest
    below = sizes[is_small].max(initial=0.0)
    between = ~is_small & (sizes < _NEAR * largest)
    if not below or between.any():
        return np.asarray(largest)
    return np.where(is_small, below, largest)
