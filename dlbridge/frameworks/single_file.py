"""Single files that frameworks write (``model.keras``, ``model.pt2``): inputs to try them with, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dlbridge import constraints
from dlbridge.errors import DlbridgeError, WrittenModelError
from dlbridge.ops import traits

if TYPE_CHECKING:
    from dlbridge.model import Model

__all__ = ["compare", "inputs"]

#: Sizes of a try: of the first axis, of the axes of images, of others.
_FIRST, _IMAGE, _OTHER = 2, 64, 16


def inputs(model: Model) -> dict[str, np.ndarray]:
    """Random inputs of a model, of sizes that it takes; integers, which may be indices, are 0 and 1.

    Raises:
        DlbridgeError: When no sizes keep the model's constraints.
    """
    wanted: dict[str, int] = {}
    for value in model.inputs:
        inner = _IMAGE if len(value.shape or ()) >= 4 else _OTHER
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                usual = _FIRST if axis == 0 else inner
                for name in _names(str(size)):
                    wanted.setdefault(name, usual)
    sizes = constraints.fit(traits.constraints(model.graph), wanted) if wanted else {}
    if sizes is None:
        raise DlbridgeError("no sizes were found that the model takes, to try what was written", where=model.name)
    random = np.random.default_rng(0)
    found = {}
    for value in model.inputs:
        shape = [s if isinstance(s, int) else _number(str(s), sizes) for s in value.shape or ()]
        is_float = value.dtype is not None and value.dtype.is_floating_point()
        array = random.standard_normal(shape) if is_float else random.integers(0, 2, shape)
        found[str(value.name)] = np.asarray(array, value.dtype.numpy() if value.dtype is not None else None)
    return found


def _names(text: str) -> frozenset[str]:
    return constraints.Expression(text, constraints.SIZE).names


def _number(text: str, sizes: Mapping[str, int]) -> int:
    return int(constraints.Expression(text, constraints.SIZE)(sizes))


def compare(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], where: str) -> None:
    """Check that what was read back from a file computes what the written model does.

    Both are the same operations of the same framework, so they agree to the last digits.

    Raises:
        WrittenModelError: When they do not.
    """
    for name, array in wanted.items():
        other = found.get(name)
        if other is None or other.shape != array.shape or other.dtype != array.dtype:
            raise WrittenModelError(f"the output '{name}' of the file is not that of the model", where=where)
        if not np.issubdtype(array.dtype, np.inexact):
            is_same = np.array_equal(array, other)
        else:
            scale = float(np.max(np.abs(np.nan_to_num(array)), initial=0.0))
            eps = float(np.finfo(array.dtype).eps)
            is_same = np.allclose(array, other, rtol=0, atol=64 * eps * max(scale, eps), equal_nan=True)
        if not is_same:
            raise WrittenModelError(f"the output '{name}' of the file has other numbers than the model", where=where)
