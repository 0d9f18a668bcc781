"""Writes through views: computes the base tensor after the part of it that a view shows was replaced."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.fx.tensors import rank, size_of, sized_like, sizes
from dlbridge.frameworks.pytorch.graph.complex_pairs import joined, parts
from dlbridge.frameworks.pytorch.graph.reading import Op

#: What stands behind all elements; and from where on a number is taken for that.
_END, _FAR = 2**63 - 1, 2**62
#: Views of all elements in the same order.
_SAME = frozenset({"alias", "contiguous", "to", "detach", "lift_fresh", "_to_copy", "expand", "positive"})
_RESHAPES = frozenset({"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view", "view_as"})
_PARTS = frozenset({"split", "split_with_sizes", "chunk", "unbind", "tensor_split"})


def scatter(op: Op, node: torch.fx.Node, whole: ir.Value, part: ir.Value) -> ir.Value:
    """``whole`` with ``part`` where the view shows it.

    Args:
        op: Makes the nodes.
        node: The call that made the view (a ``getitem`` for one of several).
        whole: What the view is of.
        part: What the view shows now.
    """
    if whole.meta.get("complex"):
        return _of_complex(op, node, whole, part)
    called = node.args[0] if node.target is operator.getitem else node
    name = compat.schema(called.target).name.partition("::")[2].removesuffix("_")  # type: ignore[union-attr]
    args = [size_of(a.meta["val"]) if isinstance(a, torch.fx.Node) else size_of(a) for a in called.args[1:]]  # type: ignore[union-attr]
    if name in _SAME and (name != "expand" or sizes(whole) == sizes(part)):
        return op.cast(part, whole.dtype)
    if name in _RESHAPES:
        return op.reshape(part, sizes(whole))
    if name in ("transpose", "swapaxes", "swapdims", "t", "mT"):
        return op.swap(part, *(args or (-2, -1)))
    if name == "permute":
        return op.transpose(part, [int(i) for i in np.argsort([a % rank(whole) for a in args[0]])])
    if name == "slice":
        axis, start, end, step = list(args) + [0, None, None, 1][len(args) :]
        return slice_scatter(op, whole, part, axis, start, end, step)
    if name == "select":
        return select_scatter(op, whole, part, *args)
    if name == "narrow":
        return slice_scatter(op, whole, part, args[0], args[1], args[1] + args[2], 1)
    if name in _PARTS:
        return _part_scatter(op, name, node, whole, part)
    target, rest, named = called.target, called.args[1:], called.kwargs
    return scatter_to_view(op, whole, part, lambda t: target(t, *rest, **named), target)


def _of_complex(op: Op, node: torch.fx.Node, whole: ir.Value, part: ir.Value) -> ir.Value:
    """The same, applied to the real and to the imaginary parts."""
    new = [op("Expand", p, sizes(part)) for p in parts(op, part)]
    made = [scatter(op, node, w, p) for w, p in zip(parts(op, whole), new, strict=True)]
    result = sized_like(joined(op, *made), whole)
    result.meta["complex"] = True
    return result


def select_scatter(op: Op, whole: ir.Value, part: ir.Value, axis: int, index: Any) -> ir.Value:
    """``whole`` with ``part`` at ``[index]`` of an axis."""
    axis %= rank(whole)
    end = None if index == -1 else index + 1
    return slice_scatter(op, whole, op.unsqueeze(part, [axis]), axis, index, end, 1)


def slice_scatter(op: Op, whole: ir.Value, part: ir.Value, axis: int, start: Any, end: Any, step: Any) -> ir.Value:
    """``whole`` with ``part`` at ``[start:end:step]`` of an axis."""
    axis %= rank(whole)
    size = sizes(whole)[axis]
    start, end = start or 0, _END if end is None else end
    are_numbers = all(isinstance(i, int) for i in (start, end, size))
    if are_numbers:
        start, end, step = slice(start, end, step).indices(size)
    if step != 1:
        rows = op.constant(np.arange(start, end, step)) if are_numbers else None
        return _rows(op, whole, part, axis, rows or op.slice(op.arange(size), 0, start, end, step))
    pieces = [part]
    if start != 0:
        pieces.insert(0, op.slice(whole, axis, 0, start))
    if end != size and not (isinstance(end, int) and end >= _FAR):
        pieces.append(op.slice(whole, axis, end, _END))
    return part if len(pieces) == 1 else sized_like(op("Concat", *pieces, axis=axis), whole)


def _rows(op: Op, whole: ir.Value, part: ir.Value, axis: int, rows: ir.Value) -> ir.Value:
    front = op.swap(whole, 0, axis)
    made = op("ScatterND", front, op.unsqueeze(rows, [1]), op.swap(part, 0, axis))
    return op.swap(sized_like(made, front), 0, axis)


def _part_scatter(op: Op, name: str, node: torch.fx.Node, whole: ir.Value, part: ir.Value) -> ir.Value:
    called: Any = node.args[0]
    places = {a.name: i for i, a in enumerate(compat.schema(called.target).arguments)}
    axis = called.kwargs.get("dim", called.args[places["dim"]] if len(called.args) > places["dim"] else 0)
    axis %= rank(whole)
    vals, index = called.meta["val"], node.args[1]
    if name == "unbind":
        return select_scatter(op, whole, part, axis, index)
    start = sum(size_of(v.shape[axis]) for v in vals[:index])
    return slice_scatter(op, whole, part, axis, start, start + size_of(vals[index].shape[axis]), 1)  # type: ignore[index]


def scatter_to_view(
    op: Op, whole: ir.Value, part: ir.Value, view: Callable[[torch.Tensor], torch.Tensor], name: object
) -> ir.Value:
    """Write what any view shows of a tensor of fixed sizes: run the view on the positions of the elements."""
    shape = sizes(whole)
    if not all(isinstance(s, int) for s in shape):
        return op.refuse(f"writing into what {name} gives of a tensor whose sizes are not fixed")
    shown = view(torch.arange(math.prod(shape)).reshape(shape)).numpy()
    made = op("ScatterND", op.flat(whole), op.constant(shown.reshape(-1, 1)), op.flat(part))
    return op.reshape(made, shape)
