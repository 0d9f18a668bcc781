"""Inputs to verify with: random arrays that fit a model's signature, reproducible from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.errors import ShapeError
from dlbridge.model import Model
from dlbridge.ops.keys import is_op, op_key
from dlbridge.verification.sizes import DEFAULT_SIZE, fitting_sizes, shape_at

#: Factors for the rows of inputs whose rows have several magnitudes (``spread``).
_SIZES = np.array([1.0, 0.01, 4.0, 0.1, 2.0])
#: With ``spread``, integers that are not used as an index are below this.
_WIDE = 10
#: Which input of a recurrent layer has the sequence lengths.
_LENGTHS = 4
#: Ops whose output has the sequence lengths of their input, possibly in another order.
_LENGTHS_PRESERVING = {"Cast", "Reshape", "Identity", "TopK", "Gather"}
#: Ops whose output has the indices of their input.
_INDEX_PRESERVING = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Slice", "Flatten", "Clip"}


def batch_dim(model: Model) -> str | None:
    """The name of the first symbolic dimension that is axis 0 of an input: the batch."""
    for value in model.inputs:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            return value.shape[0].value
    return None


def random_inputs(
    model: Model, sizes: Mapping[str, int], *, seed: int = 0, spread: bool = False
) -> dict[str, np.ndarray]:
    """Arrays for all inputs of a model.

    Floats are standard normal. Integers that are used as an index stay below the size of the indexed axis, sequence
    lengths are at least 1, other integers are 0 or 1; booleans are coin tosses. Each input has its own random stream,
    from (seed, name).

    Args:
        model: The model.
        sizes: Symbolic dimension -> size; the others get a size near ``DEFAULT_SIZE`` that the model accepts.
        seed: Any integer.
        spread: Make rows of floats of several magnitudes, which reach what only small or large numbers reach (an
            epsilon, a clip), and take integers that are no index from a wider range.

    Raises:
        ShapeError: When an input's rank or dtype is not known, or the model does not accept the sizes.
    """
    arrays = {}
    sizes = {**sizes, **fitting_sizes(model, fixed=sizes)}
    for value in model.inputs:
        if value.dtype is None:
            raise ShapeError("the input has no dtype", where=value.name)
        shape = shape_at(value, sizes)
        digest = hashlib.sha256(f"{seed}/{value.name}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        arrays[value.name or ""] = _random(value, shape, generator, sizes, spread)
    return arrays


def _random(
    value: ir.Value, shape: list[int], generator: np.random.Generator, sizes: Mapping[str, int], spread: bool
) -> np.ndarray:
    dtype = value.dtype
    assert dtype is not None
    if dtype == ir.DataType.BOOL:
        return generator.random(shape) < 0.5
    if dtype.is_integer():
        steps = _steps(value, sizes)
        if steps:
            longest_first = -np.sort(-generator.integers(1, steps + 1, shape))  # as some models require
            return longest_first.astype(dtype.numpy())
        limit = _limit(value) or (_WIDE if spread else 2)
        return generator.integers(0, limit, shape).astype(dtype.numpy())
    array = generator.standard_normal(shape)
    return (_spread(array) if spread else array).astype(dtype.numpy())


def _spread(array: np.ndarray) -> np.ndarray:
    """Scale the rows of an array by several factors; a single row becomes larger."""
    rows = array.shape[0] if array.ndim else 1
    factors = np.resize(_SIZES if rows > 1 else _SIZES[-1:], rows)
    return array * factors.reshape(-1, *[1] * (array.ndim - 1)) if array.ndim else array * factors[0]


def _steps(value: ir.Value, sizes: Mapping[str, int]) -> int | None:
    """The number of steps of the sequences whose lengths this input has; None if it has no sequence lengths."""
    for node, slot in _uses_through(value, _LENGTHS_PRESERVING):
        if is_op(node, "RNN", "GRU", "LSTM") and slot == _LENGTHS:
            x = node.inputs[0]
            axis = 1 if "layout" in node.attributes and node.attributes["layout"].as_int() else 0
            steps = x.shape[axis] if x is not None and x.shape is not None else 1
            return steps if isinstance(steps, int) else sizes.get(steps.value or "", DEFAULT_SIZE)
    return None


def _limit(value: ir.Value) -> int | None:
    """The size of the smallest axis that this input indexes; None if it is not used as an index."""
    limits: list[int] = []
    for node, slot in _uses_through(value, _INDEX_PRESERVING):
        table = {("Embedding", 0): 1, ("Gather", 1): 0}.get((op_key(node), slot))
        if table is not None and node.inputs[table] is not None:
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
            size = (node.inputs[table].shape or [2])[axis]  # type: ignore[union-attr]
            limits += [size] if isinstance(size, int) else []
    return max(1, min(limits)) if limits else None


def _uses_through(value: ir.Value, handing_on: Collection[str]) -> Iterator[tuple[ir.Node, int]]:
    """Yield (node, input index) of every use of a value, also through ops that keep its numbers."""
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for node, slot in current.uses():
            yield node, slot
            if op_key(node) in handing_on and slot == 0:
                pending.append(node.outputs[0])
