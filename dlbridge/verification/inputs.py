"""Inputs to verify with: random arrays that fit a model's signature, reproducible from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.errors import ShapeError
from dlbridge.model import Model

#: Size of a symbolic dimension, other than the batch, that the caller gives no size.
DEFAULT_SIZE = 6
#: Ops that hand an index through to whatever looks it up.
_INDEX_PRESERVING = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Slice", "Flatten", "Clip"}


def batch_dim(model: Model) -> str | None:
    """Name of the symbolic dimension that stands first in an input: the batch."""
    for value in model.inputs:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            return value.shape[0].value
    return None


def random_inputs(model: Model, sizes: Mapping[str, int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for all inputs of a model.

    Floats are standard normal; integers that look something up stay below the size of what they look up in, others
    are 0 or 1; booleans are coin tosses. Each input has its own stream from (seed, name).

    Args:
        model: The model.
        sizes: Symbolic dimension -> size; those not named get ``DEFAULT_SIZE``.
        seed: Any integer.

    Raises:
        ShapeError: When an input's rank or dtype is not known.
    """
    arrays = {}
    for value in model.inputs:
        if value.shape is None or value.dtype is None:
            raise ShapeError("the input has no shape or no dtype", where=value.name)
        shape = [d if isinstance(d, int) else sizes.get(d.value or "", DEFAULT_SIZE) for d in value.shape]
        digest = hashlib.sha256(f"{seed}/{value.name}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        arrays[value.name or ""] = _random(value, shape, generator)
    return arrays


def _random(value: ir.Value, shape: list[int], generator: np.random.Generator) -> np.ndarray:
    dtype = value.dtype
    assert dtype is not None
    if dtype == ir.DataType.BOOL:
        return generator.random(shape) < 0.5
    if dtype.is_integer():
        return generator.integers(0, _limit(value), shape).astype(dtype.numpy())
    return generator.standard_normal(shape).astype(dtype.numpy())


def _limit(value: ir.Value) -> int:
    """One more than the largest index that the model can look up with this input."""
    limits: list[int] = []
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for use in current.uses():
            node = use.node
            if node.op_type in _INDEX_PRESERVING and use.idx == 0:
                pending.extend(node.outputs)
            table = {("Embedding", 0): 1, ("Gather", 1): 0}.get((node.op_type, use.idx))
            if table is not None and node.inputs[table] is not None:
                axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
                size = (node.inputs[table].shape or [2])[axis]  # type: ignore[union-attr]
                limits += [size] if isinstance(size, int) else []
    return max(1, min(limits)) if limits else 2
