"""Reductions over all of space are global pools; transposes that follow each other are one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.lift.pattern import Lifter, attribute, input_at, ints, made_by, rank, rule

_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


@rule("ReduceMean", "ReduceMax")
def global_pool(node: ir.Node, to: Lifter) -> bool:
    """The mean (maximum) over the spatial axes of an image or a volume."""
    x, axes = node.inputs[0], ints(input_at(node, 1))
    if axes is None or rank(x) not in (4, 5) or x.dtype is None or not x.dtype.is_floating_point():
        return False
    if sorted(axis % rank(x) for axis in axes) != list(range(2, rank(x))):
        return False
    if attribute(node, "keepdims", 1):
        return to.replace(node, _POOLS[op_key(node)], [x])
    pooled = to.op(node, _POOLS[op_key(node)], "pool", [x])
    pooled.shape = ir.Shape([x.shape[0], x.shape[1], *[1] * (rank(x) - 2)])
    return to.replace(node, "Flatten", [pooled], {"axis": 1})


@rule("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin")
def reduce_of_transpose(node: ir.Node, to: Lifter) -> bool:
    """A reduction that drops all axes that a transpose moved, as in Keras' pooling of channels-last images."""
    turn, axes = made_by(node.inputs[0], "Transpose"), ints(input_at(node, 1))
    if turn is None or axes is None or attribute(node, "keepdims", 1):
        return False
    perm = list(attribute(turn, "perm") or reversed(range(rank(turn.inputs[0]) or 0)))
    gone = sorted(perm[axis % len(perm)] for axis in axes) if perm else []
    stay = [axis for axis in perm if axis not in gone]
    if not perm or stay != sorted(stay):
        return False
    moved = to.constant(f"{node.name}.axes", np.asarray(gone, np.int64))
    return to.replace(node, op_key(node), [turn.inputs[0], moved], {"keepdims": 0})


@rule("Transpose")
def transposes(node: ir.Node, to: Lifter) -> bool:
    """Two transposes in a row are one; one that does nothing goes in ``fold``."""
    first = made_by(node.inputs[0], "Transpose")
    if first is None:
        return False
    size = rank(first.inputs[0])
    p, q = (attribute(n, "perm") or (tuple(reversed(range(size))) if size is not None else None) for n in (first, node))
    if p is None or q is None:
        return False
    perm = [p[axis] for axis in q]
    if perm == sorted(perm):
        return to.replace(node, "Identity", [first.inputs[0]])
    return to.replace(node, "Transpose", [first.inputs[0]], {"perm": perm})
