"""Products with matrices, and embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import rank, sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads


@reads("aten.linear")
def linear(op: Op, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    if rank(weight) == 1:
        product = op("MatMul", x, weight)
        return product if bias is None else product + bias
    return op.extension("Linear", x, weight, bias)


@reads("aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot")
def matmul(op: Op, x: ir.Value, y: ir.Value, out_dtype: Any = None) -> ir.Value:
    return op("MatMul", x, y)


@reads("aten.addmm", "aten.addmv", "aten.baddbmm", "aten.addbmm")
def addmm(op: Op, x: ir.Value, a: ir.Value, b: ir.Value, *, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    product = op("MatMul", a, b)
    if op.name == "addbmm":
        product = op("ReduceSum", product, [0], keepdims=0)
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    return product + (x if beta == 1 else x * beta)


@reads("aten._grouped_mm", "transformers.grouped_mm_fallback")
def grouped_mm(op: Op, x: ir.Value, weight: ir.Value, offs: ir.Value, *rest: Any) -> ir.Value:
    """Rows up to ``offs[0]`` by the first matrix, from there to ``offs[1]`` by the second, ...: mixtures of experts."""
    if rank(x) != 2 or rank(weight) != 3 or any(v is not None for v in rest):
        op.refuse("grouped_mm of other than a matrix by a stack of matrices")
    places = op("Unsqueeze", op.arange(sizes(x)[0]), [1])
    ends = op.cast(offs, ir.DataType.INT64)
    group = op("ReduceSum", op.cast(op("LessOrEqual", ends, places), ir.DataType.INT64), [1], keepdims=0)
    mine = op("Equal", op("Unsqueeze", op.arange(sizes(weight)[0]), [1]), op("Unsqueeze", group, [0]))
    rows = op("Unsqueeze", x, [0]) * op("Unsqueeze", op.cast(mine, x.dtype), [2])
    return op("ReduceSum", op("MatMul", rows, weight), [0], keepdims=0)


@reads("aten.einsum")
def einsum(op: Op, equation: str, tensors: list[ir.Value], *, path: Any = None) -> ir.Value:
    terms, arrow, result = equation.replace(" ", "").partition("->")
    # onnx' shape inference does not accept an ellipsis for no axis.
    letters = [term.replace("...", "") for term in terms.split(",")]
    kept = [
        bare if len(bare) == rank(t) else term for bare, term, t in zip(letters, terms.split(","), tensors, strict=True)
    ]
    if not any("..." in term for term in kept):
        result = result.replace("...", "")
    inputs = [op.cast(t) for t in tensors]
    summed = max((rank(t) - len(bare) for bare, t in zip(letters, tensors, strict=True)), default=0)
    if not arrow or "..." in result or not summed:
        return op("Einsum", *inputs, equation=f"{','.join(kept)}{arrow}{result}")
    # PyTorch sums over the axes of an ellipsis that is missing in the result; onnxruntime needs it there.
    made = op("Einsum", *inputs, equation=f"{','.join(kept)}->...{result}")
    return op("ReduceSum", made, list(range(summed)), keepdims=0)


@reads("aten.bilinear")
def bilinear(op: Op, x: ir.Value, y: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    result = op("Einsum", x, weight, y, equation="...i,kij,...j->...k")
    return result if bias is None else result + bias


@reads("aten.embedding")
def embedding(
    op: Op,
    weight: ir.Value,
    indices: ir.Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> ir.Value:
    rows = _renormed(weight, indices)
    if rows is not None:
        return rows
    padding = None if padding_idx is None or padding_idx < 0 else padding_idx
    if rank(weight) != 2:
        return op("Gather", weight, indices, axis=0)
    return op.extension("Embedding", indices, weight, padding_idx=padding)


@reads("aten.embedding_renorm")
def embedding_renorm(op: Op, weight: ir.Value, indices: ir.Value, max_norm: float, norm_type: float) -> ir.Value:
    """The weight in which rows that are looked up, and too long, are as long as ``max_norm`` allows.

    PyTorch changes the weight itself; a second call finds nothing to change. Most often only these rows are read.
    """
    kind = {1.0: "ReduceL1", 2.0: "ReduceL2"}.get(float(norm_type))
    if kind is None:
        op.refuse(f"max_norm of norm_type={norm_type}, beside 1 and 2")
    rows = op.extension("Embedding", indices, weight)
    length = op(kind, rows, [-1], keepdims=1)
    rows = op("Where", op("Greater", length, max_norm), rows * (max_norm / (length + 1e-7)), rows)
    changed = op("ScatterND", weight, op("Unsqueeze", indices, [-1]), rows)
    changed.meta["renormed"] = (indices, rows)
    return changed


def _renormed(weight: ir.Value, indices: ir.Value) -> ir.Value | None:
    """The rows that were changed when they were looked up, where these are the ones that are read."""
    ids, rows = weight.meta.get("renormed", (None, None))
    return rows if ids is indices else None


@reads("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(
    op: Op,
    weight: ir.Value,
    indices: ir.Value,
    offsets: ir.Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: ir.Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = -1,
) -> list[ir.Value | None]:
    """The rows of each bag summed (0), averaged (1), or the largest of each column (2); of an empty bag 0."""
    pads = padding_idx is not None and padding_idx >= 0
    length = _length_of_bags(offsets, sizes(indices)[0])
    if length is not None and not (include_last_offset or pads):
        rows = op.extension("Embedding", op("Reshape", indices, [-1, length]), weight)
        if per_sample_weights is not None:
            rows = rows * op("Reshape", per_sample_weights, [-1, length, 1])
        kind = ("ReduceSum", "ReduceMean", "ReduceMax")[mode]
        return [op(kind, rows, [1], keepdims=0), None, None, None]
    rows = _renormed(weight, indices) or op.extension("Embedding", indices, weight)
    offsets, places = op.cast(offsets, ir.DataType.INT64), op.arange(sizes(indices)[0])
    if not include_last_offset:
        offsets = op("Concat", offsets, [sizes(indices)[0]], axis=0)
    starts, ends = (op("Unsqueeze", op("Slice", offsets, [a], [b], [0]), [1]) for a, b in ((0, -1), (1, 2**62)))
    inside = op("And", op("LessOrEqual", starts, places), op("Less", places, ends))
    if pads:
        inside = op("And", inside, op("Not", op("Equal", indices, padding_idx)))
    if mode == 2:
        kept = op("Where", op("Unsqueeze", inside, [2]), rows, -math.inf)
        largest = op("ReduceMax", kept, [1], keepdims=0)
        return [op("Where", op("IsInf", largest), 0, largest), None, None, None]
    share = op.cast(inside, weight.dtype)
    if per_sample_weights is not None:
        share = share * per_sample_weights
    total = op("MatMul", share, rows)
    if mode == 1:
        total = total / op("Max", op("ReduceSum", share, [1], keepdims=1), 1)
    return [total, None, None, None]


def _length_of_bags(offsets: ir.Value, count: Any) -> int | None:
    """How many indices each bag has, where all have as many: the bags of a matrix of indices are its rows."""
    if offsets.const_value is not None:
        starts = offsets.const_value.numpy()
        step = count // len(starts) if isinstance(count, int) and len(starts) else 0
        is_even = step > 0 and step * len(starts) == count and np.array_equal(starts, np.arange(0, count, step))
        return step if is_even else None
    start, end, step = offsets.meta.get("range", (None, None, None))
    is_even = start == 0 and isinstance(step, int) and step > 0 and str(end) == str(count)
    return step if is_even else None
