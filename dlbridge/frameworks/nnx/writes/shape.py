"""Ops that give the same elements another shape; padding."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import NNX, dtype_name, ints, rules
from dlbridge.source.arrays.shape import Padding, pad_at_run_time, product, reshaped_to, sizes_in_code
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code, method


@rules("Reshape")
def reshape(op: Op) -> Code:
    target = reshaped_to(op)
    if target is None:
        return call("reshape", op.x, ints(op, 1), allow_zero=True if op.attr("allowzero") else None)
    return method("reshape", op.x, *target) if target else method("reshape", op.x, ())


@rules("Flatten")
def flatten(op: Op) -> Code:
    rank, axis = op.rank(), op.axis()
    if axis == rank:
        return method("reshape", op.x, -1, 1)
    return method("reshape", op.x, product(op.sizes()[:axis]), -1)


@rules("Transpose")
def transpose(op: Op) -> Code:
    order = op.attr("perm") or list(reversed(range(op.rank())))
    if order == sorted(order):
        return code("{}", op.x)
    return code("{}.T", op.x) if order == [1, 0] else method("transpose", op.x, *order)


@rules("Pad")
def pad(op: Op) -> Code:
    asked = Padding.of(op, NNX)
    if not asked.only_adds:
        return pad_at_run_time(op, NNX, asked)
    if asked.adds_nothing:
        return code("{}", op.x)
    return call("jnp.pad", op.x, asked.pairs, mode=asked.options["mode"], constant_values=asked.fill)


@rules("Shape")
def shape(op: Op) -> Code:
    return call("jnp.array", sizes_in_code(op), dtype=dtype_name(op.out_dtype()))
