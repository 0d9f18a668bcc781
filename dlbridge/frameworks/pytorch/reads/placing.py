"""Scattering: along an axis with a reduction, into the flat tensor, onto a diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch.reading import Op, reads
from dlbridge.frameworks.pytorch.reads.indexing import _REDUCTIONS, _neutral
from dlbridge.frameworks.pytorch.tensors import is_float, numel, rank, sizes, with_sizes


@reads("aten.index_reduce")
def index_reduce(
    op: Op, x: ir.Value, dim: int, index: ir.Value, source: ir.Value, reduce: str, *, include_self: bool = True
) -> ir.Value:
    axis = dim % rank(x)
    order = [axis, *(i for i in range(rank(x)) if i != axis)]
    front, given, kind = op.transpose(x, order), op.transpose(source, order), _REDUCTIONS[reduce]
    rows = op.unsqueeze(op.cast(index, ir.DataType.INT64), [1])
    of = [sizes(x)[i] for i in order]

    def placed(target: ir.Value, values: ir.Value, reduction: str | None) -> ir.Value:
        return with_sizes(op("ScatterND", target, rows, values, reduction=reduction), of)

    def filled(number: Any, like: ir.Value) -> ir.Value:
        return with_sizes(op("Expand", op.number(number, x.dtype), sizes(like)), sizes(like))

    if not include_self:  # replaced elements start from the neutral number
        front = placed(front, filled(_neutral(kind, x.dtype), given), None)
    made = placed(front, given, kind)
    if reduce == "mean":
        count = placed(filled(int(include_self), front), filled(1, given), "add")
        count = op("Max", count, op.number(1, x.dtype))
        whole = made if is_float(x) else op("Sub", made, op("Mod", made, count))  # rounded down
        made = with_sizes(op("Div", whole, count), of)
    return op.transpose(made, [int(i) for i in np.argsort(order)])


@reads("aten.put")
def put(op: Op, x: ir.Value, index: ir.Value, source: ir.Value, accumulate: bool = False) -> ir.Value:
    flat, rows = op("Reshape", x, [-1]), op("Reshape", op.cast(index, ir.DataType.INT64), [-1, 1])
    values = op("Reshape", op.cast(source, x.dtype), [-1])
    made = op("ScatterND", flat, rows, values, reduction="add" if accumulate else None)
    return op.reshape(with_sizes(made, [numel(sizes(x))]), sizes(x))


@reads("aten.diagonal_scatter")
def diagonal_scatter(op: Op, x: ir.Value, src: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    if not all(isinstance(s, int) for s in sizes(x)):
        op.refuse("diagonal_scatter of sizes that are not fixed")
    places = torch.arange(int(numel(sizes(x)))).reshape(sizes(x)).diagonal(offset, dim1, dim2).numpy()
    rows = op.constant(places.reshape(-1, 1))
    made = op("ScatterND", op("Reshape", x, [-1]), rows, op("Reshape", op.cast(src, x.dtype), [-1]))
    return op.reshape(with_sizes(made, [numel(sizes(x))]), sizes(x))
