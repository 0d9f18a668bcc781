"""Which strategies' rows of a set of inputs some elements of the outputs belong to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlbridge.model import Model
from dlbridge.verification.inputs.arrays import batch_dim, row_axis
from dlbridge.verification.measure import Arrays, is_float


def rows_without_numbers(model: Model, outputs: Arrays, parts: int, sizes: Mapping[str, int]) -> set[int]:
    """Which strategies' rows give outputs that are not finite; all of them where rows cannot be told apart."""
    floats = {name: array for name, array in outputs.items() if is_float(array.dtype)}
    places = {name: ~np.isfinite(array.astype(np.float64)) for name, array in floats.items()}
    found = _strategies_of(model, places, parts, sizes)
    return set(range(parts)) if None in found else {part for part in found if part is not None}


def unsettled_rows(model: Model, places: Arrays, parts: int, sizes: Mapping[str, int]) -> set[int]:
    """The strategies whose rows give unsettled numbers; all of them if only outputs without rows are unsettled."""
    found = _strategies_of(model, places, parts, sizes)
    rows = {part for part in found if part is not None}
    return set(range(parts)) if found and not rows else rows


def _strategies_of(model: Model, places: Arrays, parts: int, sizes: Mapping[str, int]) -> set[int | None]:
    """The strategies in whose rows some places of the outputs are located; None for places that are in no row."""
    found: set[int | None] = set()
    batch = batch_dim(model)
    for value in model.outputs:
        array = places.get(value.name or "")
        if array is None or not array.any():
            continue
        axis = row_axis(value, batch)
        rows = array.shape[axis] if axis is not None else 0
        if parts == 1 or rows != sizes.get(batch or "", rows) or rows < parts or axis is None:
            found.add(None)
            continue
        others = tuple(a for a in range(array.ndim) if a != axis)
        shares = np.array_split(array.any(axis=others), parts)
        found |= {index for index, share in enumerate(shares) if share.any()}
    return found
