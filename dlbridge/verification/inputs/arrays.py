"""Inputs to verify with: arrays that fit a model's signature, filled by named strategies, reproducible from a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge import npz
from dlbridge.errors import ShapeError, SignatureError
from dlbridge.model import Model
from dlbridge.ops.strings import as_text, is_text
from dlbridge.verification.inputs.roles import Role, roles
from dlbridge.verification.inputs.sizes import fitting_sizes, shape_at
from dlbridge.verification.inputs.strategies import PLAIN, Strategy, plain


def batch_dim(model: Model) -> str | None:
    """The name of the first symbolic dimension that is axis 0 of an input: the batch."""
    for value in model.inputs:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            return value.shape[0].value
    return None


def random_inputs(model: Model, sizes: Mapping[str, int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Plain random arrays for all inputs of a model.

    Floats are standard normal. Integers that are used as an index stay below the size of the indexed axis, sequence
    lengths are at least 1, other integers are 0 or 1; booleans are coin tosses.

    Args:
        model: The model.
        sizes: Symbolic dimension -> size; the others get a size near ``DEFAULT_SIZE`` that the model accepts.
        seed: Any integer.

    Raises:
        ShapeError: When an input's rank or dtype is not known, or the model does not accept the sizes.
    """
    return filled_inputs(model, sizes, [PLAIN], seed=seed)


def filled_inputs(
    model: Model, sizes: Mapping[str, int], strategies: Sequence[Strategy], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Arrays for all inputs of a model, whose rows are shared out among strategies in their order.

    Each input has its own random stream, from (seed, name).

    Raises:
        ShapeError: As :func:`random_inputs`.
    """
    sizes = {**sizes, **fitting_sizes(model, fixed=sizes)}
    batch = batch_dim(model)
    arrays = {}
    for role in roles(model, sizes):
        if role.value.dtype is None:
            raise ShapeError("the input has no dtype", where=role.name)
        shape = shape_at(role.value, sizes)
        digest = hashlib.sha256(f"{seed}/{role.name}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        array = _filled(role, tuple(shape), row_axis(role.value, batch), strategies, generator)
        arrays[role.name] = _of_type(array, role.value.dtype)
    return arrays


def given_inputs(model: Model, given: Mapping[str, np.ndarray] | str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The caller's own arrays for the inputs of a model, from memory or from an ``.npz`` file.

    Raises:
        FileError: When the file cannot be read.
        SignatureError: When an input has no array, or one of another kind or rank.
    """
    where = str(given) if isinstance(given, (str, os.PathLike)) else model.name
    arrays = npz.read(given) if isinstance(given, (str, os.PathLike)) else {n: np.asarray(a) for n, a in given.items()}
    unknown = sorted(arrays.keys() - {v.name for v in model.inputs})
    missing = [v.name or "" for v in model.inputs if v.name not in arrays]
    if missing or unknown:
        names = ", ".join(v.name or "" for v in model.inputs)
        what = f"there is no array for input '{missing[0]}'" if missing else f"there is no input '{unknown[0]}'"
        raise SignatureError(what, where=where, hint=f"the inputs are: {names}")
    found, sizes = {}, dict[str, int]()
    for value in model.inputs:
        name, array = value.name or "", arrays[value.name or ""]
        if value.dtype is None or value.shape is None or not _has_sizes(array, value.shape, sizes):
            raise SignatureError(f"'{name}' has the shape {array.shape}, not {value.shape}", where=where)
        wanted = value.dtype.numpy()
        is_string = value.dtype == ir.DataType.STRING
        array = as_text(array) if is_string and is_text(array) else array
        fits = array.dtype == wanted or (not is_string and np.can_cast(array.dtype, wanted, "same_kind"))
        if not fits:
            raise SignatureError(f"'{name}' has the dtype {array.dtype}, not {wanted}", where=where)
        found[name] = array.astype(wanted)
    return found


def _has_sizes(array: np.ndarray, shape: ir.Shape, sizes: dict[str, int]) -> bool:
    """Whether an array has a shape; ``sizes`` gets what its free sizes are here, which those after it must keep to."""
    if array.ndim != len(shape):
        return False
    for dim, size in zip(shape, array.shape, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim.value, size) if dim.value else size
        if wanted != size:
            return False
    return True


def row_axis(value: ir.Value, batch: str | None) -> int | None:
    """The axis along which rows are independent of each other: that of the batch, or the first; None of a scalar."""
    if value.shape is None or not len(value.shape):
        return None
    names = [None if isinstance(d, int) else d.value for d in value.shape]
    return names.index(batch) if batch is not None and batch in names else 0


def _filled(
    role: Role,
    shape: tuple[int, ...],
    axis: int | None,
    strategies: Sequence[Strategy],
    generator: np.random.Generator,
) -> np.ndarray:
    if axis is None or len(strategies) == 1:
        return _by_strategy(strategies[0], role, shape, generator)
    rows = shape[axis]
    parts = []
    for count, strategy in zip(_shares(rows, len(strategies)), strategies, strict=True):
        part = (*shape[:axis], count, *shape[axis + 1 :])
        parts.append(_by_strategy(strategy, role, part, generator))
    joined = np.concatenate(parts, axis)
    return -np.sort(-joined) if role.steps is not None else joined


def _shares(rows: int, parts: int) -> list[int]:
    """How many rows each part gets: as equal as can be, the first ones more."""
    return [rows // parts + (index < rows % parts) for index in range(parts)]


def _by_strategy(strategy: Strategy, role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    found = strategy.numbers(role, shape, generator) if 0 not in shape else None
    return np.asarray(plain(role, shape, generator) if found is None else found)


def _of_type(array: np.ndarray, dtype: ir.DataType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy())
