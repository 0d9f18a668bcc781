"""Constants that are printed in the source."""

from __future__ import annotations

import numpy as np

from dlbridge.source.tree.code import Code, Literal, Raw, call, code, method
from dlbridge.source.tree.literals import MAX_REPEATED, is_counted, is_repeated

#: Constants with more elements than this come from the weights file, not from the source.
MAX_PRINTED = 64


def constant(array: np.ndarray, dtype: str) -> Code | None:
    """What makes a constant in the source: its one number, or its few elements. None where there are too many."""
    kept = Raw(dtype) if dtype != "torch.float32" else None
    if is_repeated(array):
        if not any(array.tobytes()):
            return call("torch.zeros", array.shape, dtype=kept)
        return call("torch.full", array.shape, Literal(array.flat[0], "value"), dtype=Raw(dtype))
    if array.size > MAX_REPEATED and array.ndim > 1 and array.dtype.kind in "bif":
        for side, k in _diagonals(array):
            if np.array_equal(array, getattr(np, side)(np.ones_like(array), k)):
                ones = call("torch.ones", *array.shape, dtype=kept)
                return code(f"{{}}.{side}({{}})", ones, k) if k else code(f"{{}}.{side}()", ones)
    if is_counted(array):
        made = call("torch.arange", array.size, dtype=Raw(dtype))
        return made if array.ndim == 1 else method("reshape", made, *array.shape)
    if 0 < array.size <= MAX_PRINTED:
        return code("torch.tensor({}, dtype={})", Literal(array, "values"), Raw(dtype))
    return None


def _diagonals(array: np.ndarray) -> list[tuple[str, int]]:
    """The diagonal at which a matrix (of matrices) of ones would end or begin, were it a triangle."""
    row = array.reshape(-1, array.shape[-1])[0] != 0
    return [("tril", int(row.sum()) - 1), ("triu", int(row.argmax()))]
