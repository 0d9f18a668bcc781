"""Types and sizes of the tensors of an exported program, as the reading rules see them.

A size is an int, or a sympy expression if it is symbolic. Known sizes are kept in ``value.meta``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch.compat import FloorDiv
from dlbridge.source.arrays import dtypes

Size = Any  # int | sympy.Expr


#: dtype of torch -> that of ONNX.
DTYPES = {getattr(torch, name): dtype for dtype, name in (dtypes.DTYPES | dtypes.MORE_DTYPES).items()}
# A complex tensor is a real one with one more axis of size 2 at the end (see graph/complex_pairs.py).
DTYPES |= {torch.complex64: ir.DataType.FLOAT, torch.complex128: ir.DataType.DOUBLE}


def onnx_dtype(dtype: Any) -> ir.DataType:
    """The ONNX dtype for a dtype of PyTorch, numpy or ONNX."""
    if isinstance(dtype, ir.DataType):
        return dtype
    return DTYPES[dtype] if isinstance(dtype, torch.dtype) else ir.DataType.from_numpy(np.dtype(dtype))


def torch_dtype(value: ir.Value) -> torch.dtype:
    """The dtype of a value as torch has it."""
    is_complex = bool(value.meta.get("complex"))
    return next(t for t, dtype in DTYPES.items() if dtype == value.dtype and t.is_complex == is_complex)


def size_of(size: Any) -> Size:
    """A size of torch as an int or a sympy expression."""
    if isinstance(size, (int, float)):
        return size
    found = size.node.expr if hasattr(size, "node") else size
    if getattr(found, "is_Integer", False):
        return int(found)
    return found


def quotient(size: Size, by: int) -> Size:
    """A size divided by a number, rounded down."""
    return size // by if isinstance(size, int) else size_of(FloorDiv(size, by))


def sizes_of(tensor: torch.Tensor) -> list[Size]:
    """Sizes of a fake tensor."""
    return [size_of(s) for s in tensor.shape]


def known_sizes(x: ir.Value) -> list[Size] | None:
    """Sizes of a value; None if they are unknown."""
    return x.meta.get("sizes")


def sizes(x: ir.Value) -> list[Size]:
    """Sizes of a value that a rule received; these are always known."""
    return x.meta["sizes"]


def numel(of: Sequence[Size]) -> Size:
    """How many elements a tensor of these sizes has."""
    return functools.reduce(operator.mul, of, 1)


def common_sizes(shapes: Sequence[Sequence[Size]]) -> list[Size]:
    """The shape that these shapes broadcast to."""
    depth = max(map(len, shapes))
    common: list[Size] = [1] * depth
    for shape in shapes:
        for i, size in enumerate([*[1] * (depth - len(shape)), *shape]):
            common[i] = size if common[i] == 1 else common[i]
    return common


def to_front(x: ir.Value, dim: int) -> tuple[list[int], list[int]]:
    """The permutation that moves an axis to the front, and the one that moves it back."""
    axis = dim % rank(x)
    order = [axis, *(i for i in range(rank(x)) if i != axis)]
    return order, [int(i) for i in np.argsort(order)]


def rank(x: ir.Value) -> int:
    return len(sizes(x))


def with_sizes(x: ir.Value, of: Sequence[Size]) -> ir.Value:
    x.meta["sizes"] = list(of)
    return x


def sized_like(x: ir.Value, other: ir.Value) -> ir.Value:
    """Give a value the sizes of another, if those are known."""
    known = known_sizes(other)
    return x if known is None else with_sizes(x, known)


def is_float(x: ir.Value) -> bool:
    return x.dtype is not None and x.dtype.is_floating_point()
