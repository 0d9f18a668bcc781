"""Reading and writing elements by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.ops import traits
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family, as_many_as_read
from dlbridge.source.op import Dim, Emit, Op
from dlbridge.source.tree.code import Code, call, code

indexing = Family()


@indexing("Gather")
def gather(op: Op, arrays: ArrayDialect) -> Code:
    axis, index = op.axis(), op.scalar(1)
    if index is not None and op.rank(1) == 0:
        return code("{}[{}]", op.x, code(", ".join([":"] * axis + ["{}"]), int(index)))
    return arrays.call("take", op[0], op[1], axis=axis)


@indexing("GatherElements")
def gather_elements(op: Op, arrays: ArrayDialect) -> Code:
    """The frameworks broadcast the other axes; ONNX reads as much of them as there are indices."""
    have, asked, axis = op.shape(), op.shape(1), op.attr("axis")
    if have is None or asked is None or not _fits(have, asked, op.axis()):
        return call("gather_elements", op[0], op[1], axis=axis)
    return arrays.call("take_along_axis", op[0], op[1], axis=axis)


def _fits(have: list[Dim], asked: list[Dim], axis: int) -> bool:
    """Whether all sizes but that of the axis are known to be the same."""
    pairs = list(zip(have, asked, strict=True))
    del pairs[axis]
    return all(a == b is not None for a, b in pairs)


@indexing("CompactSteps", domain=DOMAIN)
def compact_steps(op: Op, arrays: ArrayDialect) -> Code:
    return call("compact_steps", op[0], op[1])


@indexing("SpreadSteps", domain=DOMAIN)
def spread_steps(op: Op, arrays: ArrayDialect) -> Code:
    return call("spread_steps", op[0], op[1])


def padded(op: Op, rows: Code) -> Code:
    """An Embedding's lookup whose padding row gets no gradient, where the framework's own layer has no such row."""
    table, padding = op.value(1), op.attr("padding_idx")
    if padding < 0 or table is None or not traits.is_trained(table):
        return rows
    return call("without_padding", rows, op[0], padding)


@indexing("GatherND")
def gather_nd(op: Op, arrays: ArrayDialect) -> Code:
    return call("gather_nd", op.x, op[1], batch_dims=op.attr("batch_dims") or None)


def _reduction(op: Op) -> dict[str, Any]:
    how = op.attr("reduction", "none")
    return {} if how == "none" else {"reduction": how}


@indexing("ScatterElements", "Scatter")
def scatter_elements(op: Op, arrays: ArrayDialect) -> Code:
    return call("scatter_elements", op.x, op[1], op[2], axis=op.axis() or None, **_reduction(op))


@indexing("ScatterND")
def scatter_nd(op: Op, arrays: ArrayDialect) -> Code:
    return call("scatter_nd", op.x, op[1], op[2], **_reduction(op))


@indexing("TensorScatter")
def tensor_scatter(op: Op, arrays: ArrayDialect) -> Code:
    axis = op.axis()
    keywords: dict[str, Any] = {"starts": op[2]} if op.has(2) else {}
    keywords |= {"axis": axis} if axis != op.rank() - 2 else {}
    keywords |= {"circular": True} if op.attr("mode") == "circular" else {}
    return call("tensor_scatter", op.x, op[1], **keywords)


@indexing("OneHot")
def one_hot(op: Op, arrays: ArrayDialect) -> Code:
    depth, axis = arrays.number(op, 1), op.attr("axis")
    depth = depth if isinstance(depth, (int, Code)) else int(depth)
    if isinstance(depth, Code) and not op.dtype(1).is_integer():
        depth = code("int({})", depth)
    return call("one_hot", op.x, depth, op[2], axis=None if axis == -1 else axis)


@indexing("NonZero")
def non_zero(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.in_dtype(op, arrays.call("stack", arrays.call("nonzero", op.x)))


@indexing("Compress")
def compress(op: Op, arrays: ArrayDialect) -> Code:
    return call("compress", op.x, op[1], axis=None if op.attr("axis") is None else op.axis())


@indexing("Unique")
def unique(op: Op, arrays: ArrayDialect) -> Emit:
    keywords: dict[str, Any] = {} if op.attr("axis") is None else {"axis": op.axis()}
    keywords |= {} if op.attr("sorted") else {"in_order": False}
    return as_many_as_read(op, call("unique", op.x, **keywords), 4)


@indexing("ReverseSequence")
def reverse_sequence(op: Op, arrays: ArrayDialect) -> Code:
    batch, time = op.attr("batch_axis"), op.attr("time_axis")
    keywords = {k: v for k, v, usual in (("batch_axis", batch, 1), ("time_axis", time, 0)) if v != usual}
    return call("reverse_sequence", op.x, op[1], **keywords)


@indexing("NonMaxSuppression")
def non_max_suppression(op: Op, arrays: ArrayDialect) -> Code:
    slots = {"max_per_class": (2, 0), "iou_threshold": (3, 0.0), "score_threshold": (4, None)}
    keywords: dict[str, Any] = {}
    for name, (index, default) in slots.items():
        if op.has(index):
            value = arrays.number(op, index)
            keywords[name] = value if isinstance(value, Code) else np.asarray(value)[()]
        elif default is not None:
            keywords[name] = default
    keywords |= {"centered": True} if op.attr("center_point_box") else {}
    return call("non_max_suppression", op[0], op[1], **keywords)


@indexing("TfIdfVectorizer")
def tfidf_vectorizer(op: Op, arrays: ArrayDialect) -> Code:
    pool, starts = op.attr("pool_int64s"), [*op.attr("ngram_counts")]
    if pool is None:
        op.refuse("it counts strings")
    grams: list[list[int]] = []
    for length, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        grams += [list(pool[i : i + length]) for i in range(start, end, length)]
    lengths = (op.attr("min_gram_length"), op.attr("max_gram_length"))
    keywords: dict[str, Any] = {"lengths": lengths, "skips": op.attr("max_skip_count")}
    keywords |= {"once": True} if op.attr("mode") == "IDF" else {}
    weights = op.attr("weights")
    keywords |= {"weights": list(weights)} if weights and op.attr("mode") != "TF" else {}
    return call("count_ngrams", op.x, grams, list(op.attr("ngram_indexes")), **keywords)
