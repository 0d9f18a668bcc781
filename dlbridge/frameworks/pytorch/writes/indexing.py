"""Reading and writing elements by index."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import ints, rules
from dlbridge.frameworks.pytorch.writes.elementwise import is_tensor
from dlbridge.frameworks.pytorch.writes.shape import method
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Op

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def _long(op: Op, index: int) -> Any:
    """An index input as PyTorch's gather and scatter want it: int64, not negative."""
    numbers = op.const(index)
    known = numbers is not None and (numbers.size == 0 or numbers.min() >= 0)
    x = op[index] if op.dtype(index) == ir.DataType.INT64 else code("{}.long()", op[index])
    return x if known else None


@rules("Gather")
def gather(op: Op) -> Code:
    axis = op.axis()
    index = op.operand(1)
    if not is_tensor(index) and not isinstance(index, Code):
        index = int(index)
    elif op.dtype(1) not in (ir.DataType.INT64, ir.DataType.INT32):
        index = method("long", index)
    return code(f"{{}}[{':, ' * axis}{{}}]", op.x, index)


def _wrapped(op: Op, index: int, axis: int) -> Any:
    """Indices along an axis, with negative ones counted from its end."""
    plain = _long(op, index)
    return plain if plain is not None else code("{} % {}", op[index], op.dim(0, axis))


def _as_long(op: Op, index: int, wrapped: Any) -> Any:
    return wrapped if op.dtype(index) == ir.DataType.INT64 else code("({}).long()", wrapped)


@rules("GatherElements")
def gather_elements(op: Op) -> Code:
    axis = op.axis()
    return call("torch.gather", op.x, axis, _as_long(op, 1, _wrapped(op, 1, axis)))


@rules("GatherND")
def gather_nd(op: Op) -> Code:
    batch = op.attr("batch_dims")
    return call("gather_nd", op.x, op[1], **({"batch_dims": batch} if batch else {}))


@rules("ScatterElements", "Scatter")
def scatter_elements(op: Op) -> Code:
    axis, how = op.axis(), op.attr("reduction", "none")
    index = _as_long(op, 1, _wrapped(op, 1, axis))
    if how == "none":
        return method("scatter", op.x, axis, index, op[2])
    if how == "add":
        return method("scatter_add", op.x, axis, index, op[2])
    return method("scatter_reduce", op.x, axis, index, op[2], _REDUCTIONS[how])


@rules("ScatterND")
def scatter_nd(op: Op) -> Code:
    how = op.attr("reduction")
    return call("scatter_nd", op.x, op[1], op[2], **({} if how == "none" else {"reduction": how}))


@rules("TensorScatter")
def tensor_scatter(op: Op) -> Code:
    axis = op.axis()
    keywords: dict[str, Any] = {"starts": op[2]} if op.has(2) else {}
    keywords |= {"axis": axis} if axis != op.rank() - 2 else {}
    keywords |= {"circular": True} if op.attr("mode") == "circular" else {}
    return call("tensor_scatter", op.x, op[1], **keywords)


@rules("OneHot")
def one_hot(op: Op) -> Code:
    depth = op.scalar(1)
    count = int(depth) if depth is not None else code("int({})", op[1])
    axis = op.attr("axis")
    return call("one_hot", op.x, count, op[2], **({"axis": axis} if axis != -1 else {}))


@rules("NonZero")
def non_zero(op: Op) -> Code:
    return code("{}.nonzero().T", op.x)


@rules("Compress")
def compress(op: Op) -> Code:
    axis = op.attr("axis")
    return call("compress", op.x, op[1], **({} if axis is None else {"axis": op.axis()}))


@rules("Unique")
def unique(op: Op) -> Emit:
    axis = op.attr("axis")
    keywords: dict[str, Any] = {} if axis is None else {"axis": op.axis()}
    keywords |= {} if op.attr("sorted") else {"in_order": False}
    result = call("unique", op.x, **keywords)
    count = len(op.node.outputs)
    if count == 1:
        return Emit(code("{}[0]", result))
    return Emit(result if count == 4 else code(f"{{}}[:{count}]", result))


@rules("ReverseSequence")
def reverse_sequence(op: Op) -> Code:
    batch, time = op.attr("batch_axis"), op.attr("time_axis")
    keywords = {k: v for k, v, usual in (("batch_axis", batch, 1), ("time_axis", time, 0)) if v != usual}
    return call("reverse_sequence", op.x, op[1], **keywords)


@rules("NonMaxSuppression")
def non_max_suppression(op: Op) -> Code:
    slots = {"max_per_class": (2, 0), "iou_threshold": (3, 0.0), "score_threshold": (4, None)}
    keywords: dict[str, Any] = {}
    for name, (index, default) in slots.items():
        if op.has(index):
            number = op.scalar(index)
            keywords[name] = code("{}.item()", op[index]) if number is None else np.asarray(number)[()]
        elif default is not None:
            keywords[name] = default
    keywords |= {"centered": True} if op.attr("center_point_box") else {}
    return call("non_max_suppression", op[0], op[1], **keywords)


@rules("Col2Im")
def col2im(op: Op) -> Code:
    size, kernel = ints(op, 1), ints(op, 2)
    count = len(op.numbers(2) or []) or (op.shape(2) or [0])[0]
    assert isinstance(count, int)
    strides, dilations = op.attr("strides") or [1] * count, op.attr("dilations") or [1] * count
    pads = op.attr("pads") or [0] * 2 * count
    if count == 2 and pads[:2] == pads[2:]:
        keywords = {
            k: tuple(v)
            for k, v, usual in (("dilation", dilations, 1), ("padding", pads[:2], 0), ("stride", strides, 1))
            if any(i != usual for i in v)
        }
        sizes = [tuple(v) if isinstance(v, list) else v for v in (size, kernel)]
        return call("F.fold", op.x, *sizes, **keywords)
    return call("col2im", op.x, size, kernel, strides, pads, dilations)


@rules("TfIdfVectorizer")
def tfidf_vectorizer(op: Op) -> Code:
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
