"""Turns reductions over all spatial axes into global pools, and joins transposes that follow each other."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.lift.pattern import Lifter, ints, rule
from dlbridge.passes.matching import Match, permutation, producer, rank

_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


@rule("ReduceMean", "ReduceMax")
def global_pool(node: Match, to: Lifter) -> bool:
    """The mean (maximum) over the spatial axes of an image or a volume."""
    x, axes = node.operand(0), ints(node.input(1))
    size = rank(x)
    if axes is None or x.shape is None or size not in (4, 5):
        return to.no(node, "it is not over known axes of an image or a volume")
    if x.dtype is None or not x.dtype.is_floating_point():
        return to.no(node, "pools are of floats")
    if sorted(axis % size for axis in axes) != list(range(2, size)):
        return to.no(node, "the axes are not those of space")
    pool = _POOLS[node.key]
    if node.integer("keepdims"):
        return to.become(node, pool, [x])
    pooled = to.op(node, pool, "pool", [x])
    pooled.shape = ir.Shape([x.shape[0], x.shape[1], *[1] * (size - 2)])
    return to.become(node, "Flatten", [pooled], {"axis": 1})


@rule("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin")
def reduce_of_transpose(node: Match, to: Lifter) -> bool:
    """A reduction that drops all axes that a transpose moved, as in Keras' pooling of channels-last images."""
    turn, axes = producer(node.operand(0), "Transpose"), ints(node.input(1))
    if turn is None or axes is None or node.integer("keepdims"):
        return to.no(node, "it does not drop known axes of a transpose")
    perm = permutation(turn)
    if not perm:
        return to.no(node, "the permutation is not known")
    gone = sorted(perm[axis % len(perm)] for axis in axes)
    stay = [axis for axis in perm if axis not in gone]
    if stay != sorted(stay):
        return to.no(node, "the axes that stay are in another order")
    moved = to.constant(f"{node.name}.axes", gone)
    return to.become(node, node.key, [turn.operand(0), moved], {"keepdims": 0})


@rule("Transpose")
def transposes(node: Match, to: Lifter) -> bool:
    """Two transposes in a row are one; one that does nothing goes in ``fold``."""
    first = producer(node.operand(0), "Transpose")
    if first is None:
        return to.no(node, "it is not of a transpose")
    p, q = permutation(first), permutation(node)
    if p is None or q is None:
        return to.no(node, "the permutation is not known")
    perm = [p[axis] for axis in q]
    if perm == sorted(perm):
        return to.become(node, "Identity", [first.operand(0)])
    return to.become(node, "Transpose", [first.operand(0)], {"perm": perm})
