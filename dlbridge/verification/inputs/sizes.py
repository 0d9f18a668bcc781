"""Sizes to verify with: one for each named size of a model's signature, within the signature's constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from dlbridge import constraints
from dlbridge.errors import ShapeError, suggest
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.evaluator import LARGE
from dlbridge.passes.matching import constant
from dlbridge.passes.sizes import require_shapes

#: Constants beyond this are no lengths that a sequence should exceed, and those with more numbers are tables.
LONGEST, _MOST_NUMBERS = 600, 8
#: Size of a symbolic dimension, other than the batch, if the caller does not choose one.
DEFAULT_SIZE = 6


def fitting_sizes(
    model: Model, preferred: Mapping[str, int] | None = None, fixed: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A size for each name in the shapes of a model's inputs: close to the preferred one, within the constraints.

    Args:
        model: The model.
        preferred: Name -> the wanted size; ``DEFAULT_SIZE`` for the others.
        fixed: Name -> the required size.

    Raises:
        ShapeError: When no sizes satisfy the constraints.
    """
    known = traits.constraints(model.graph)
    names = {n for v in model.inputs for d in v.shape or () for n in _names(d)} | {n for c in known for n in c.names}
    wanted = {name: (preferred or {}).get(name, DEFAULT_SIZE) for name in names}
    found = constraints.fit(known, wanted, {n: s for n, s in (fixed or {}).items() if n in names})
    if found is None:
        said = " and ".join(c.text for c in known)
        given = "".join(f", with {name} = {size}" for name, size in (fixed or {}).items() if name in names)
        raise ShapeError(f"no sizes are found for which {said}{given}", where=model.name)
    return found


def require_names(model: Model, sizes: Mapping[str, int]) -> None:
    """Refuse a size that a caller gives for a name that no input has.

    Raises:
        ShapeError: When there is such a name, or a size is negative.
    """
    names = sorted(fitting_sizes(model))
    for name in sizes:
        if name not in names:
            hint = suggest(name, names) or (f"free sizes: {', '.join(names)}" if names else "all sizes are fixed")
            raise ShapeError(f"no input has a free size '{name}'", where=model.name, hint=hint)
        if sizes[name] < 0:
            raise ShapeError(f"{sizes[name]} is no size, of '{name}'", where=model.name)


def shape_at(value: ir.Value, sizes: Mapping[str, int]) -> list[int]:
    """The shape of an input at these sizes; a name without a size has ``DEFAULT_SIZE``.

    Raises:
        ShapeError: When its rank is not known, or a size would be negative.
    """
    require_shapes([value])
    return [_size(d, sizes, value.name) for d in value.shape or ()]


def elements(model: Model, sizes: Mapping[str, int]) -> int:
    """The number of elements of all values that a graph computes at these sizes, as far as their shapes are known."""
    values = (value for node in model.graph for value in node.outputs if value.shape is not None)
    return sum(math.prod(max(_size(d, sizes, value.name), 0) for d in value.shape or ()) for value in values)


def bytes_of_weights(model: Model) -> int:
    """The bytes of all initializers."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def has_large_weights(model: Model) -> bool:
    """Whether a copy of the weights is worth a search for what holds one."""
    return bytes_of_weights(model) >= LARGE


def longest_constant(model: Model) -> int | None:
    """The largest integer constant of the graph that could be a length; None if there is none above the usual size."""
    found = [0]
    for value in model.graph.initializers.values():
        tensor = constant(value)
        if tensor is None or tensor.size > _MOST_NUMBERS or value.dtype is None or not value.dtype.is_integer():
            continue
        found += [int(n) for n in tensor.numpy().reshape(-1) if n <= LONGEST]
    largest = max(found)
    return largest if largest > DEFAULT_SIZE else None


def _size(dim: int | ir.SymbolicDim, sizes: Mapping[str, int], where: str | None) -> int:
    if isinstance(dim, int):
        return dim
    text = dim.value or ""
    arithmetic = constraints.dimension(text)
    if text in sizes or arithmetic is None:
        return sizes.get(text, DEFAULT_SIZE)
    size = int(arithmetic({name: sizes.get(name, DEFAULT_SIZE) for name in arithmetic.names}))
    if size < 0:
        raise ShapeError(f"'{text}' would be {size}", where=where, hint="give its names other sizes")
    return size


def _names(dim: int | ir.SymbolicDim) -> frozenset[str]:
    return frozenset() if isinstance(dim, int) or dim.value is None else constraints.names_of(dim.value)
