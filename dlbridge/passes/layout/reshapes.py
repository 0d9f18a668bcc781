"""Transposes behind Reshape and Flatten: where axes that are merged or cut stay side by side; and into weights, where a
Flatten meets a Linear."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.ops.keys import is_op
from dlbridge.passes.layout.axes import inverse
from dlbridge.passes.layout.transposes import Move, is_transpose, move_after, transpose

#: Ops (with their domains) between a Flatten and a Linear that do not care which feature is which.
_FEATURE_WISE = {
    *(("", op) for op in ("Relu", "Dropout", "Identity", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "HardSwish", "Swish")),
    *(("", op) for op in ("Elu", "Clip")),
    *((extension.DOMAIN, op) for op in extension.NOISE_OPS),
}

Dim = int | str | None


def _dims(shape: ir.Shape | None) -> list[Dim] | None:
    return None if shape is None else [d if isinstance(d, int) else d.value for d in shape]


def reshape_rule(node: ir.Node, perm: list[int]) -> Move | None:
    """``reshape(transpose(x))`` with axes merged or cut in groups."""
    return _regroup(node, perm) or _ones(node, perm)


def flatten_rule(node: ir.Node, perm: list[int]) -> Move | None:
    """``flatten(transpose(x))``: dropped where only axes of size 1 move, else into the weights of the next Linear."""
    return _ones(node, perm) or _into_linear(node, perm)


def _source(node: ir.Node) -> tuple[ir.Value, list[Dim], list[Dim], list[Dim]] | None:
    """The value before the transpose, its shape, the transpose's and the node's output's shape."""
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if value is None or producer is None or not is_transpose(producer) or producer.inputs[0] is None:
        return None
    inner = producer.inputs[0]
    before, between, after = _dims(inner.shape), _dims(value.shape), _dims(node.outputs[0].shape)
    if before is None or between is None or after is None or None in (*before, *after):
        return None
    return inner, before, between, after


def _ones(node: ir.Node, perm: list[int]) -> Move | None:
    """The transpose moves axes of size 1 only: the numbers are in the same order without it."""
    found = _source(node)
    if found is None:
        return None
    inner, before, _, after = found
    order = [axis for axis in perm if before[axis] != 1]
    if order != sorted(order) or (is_op(node, "Flatten") and not _keeps_flatten(node, before, after)):
        return None
    if is_op(node, "Reshape") and _copies_dims(node):
        return None

    def move() -> None:
        node.replace_input_with(0, inner)

    return move


def _keeps_flatten(node: ir.Node, before: list[Dim], after: list[Dim]) -> bool:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    axis = axis % (len(before) + 1) if axis < 0 else axis
    head = [d for d in before[:axis] if d != 1]
    return head == ([] if after[0] == 1 else [after[0]]) or (axis == 1 and before[0] == after[0])


def _copies_dims(node: ir.Node) -> bool:
    """Whether a Reshape has a 0 that copies a size other than the first of an unmoved axis."""
    shape = node.inputs[1]
    if shape is None or shape.const_value is None:
        return True
    return bool((shape.const_value.numpy() == 0).any())


def _groups(source: Sequence[Dim], target: Sequence[Dim]) -> list[tuple[list[int], list[int]]] | None:
    """Axes of the source and of the target, in groups of the same number of elements; None when not known."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        left, right = [], []
        if i < len(source):
            left, i = [i], i + 1
        if j < len(target):
            right, j = [j], j + 1
        while (sizes := (_size(source, left), _size(target, right))) and sizes[0] != sizes[1]:
            a, b = sizes
            if a is None or b is None or isinstance(a, str) or isinstance(b, str):
                return None
            if a < b and i < len(source):
                left.append(i)
                i += 1
            elif b < a and j < len(target):
                right.append(j)
                j += 1
            else:
                return None
        groups.append((left, right))
    return groups


def _size(dims: Sequence[Dim], axes: list[int]) -> Dim:
    sizes = [dims[a] for a in axes]
    if len(sizes) == 1:
        return sizes[0]
    return math.prod(sizes) if all(isinstance(s, int) for s in sizes) else None  # type: ignore[arg-type]


def _regroup(node: ir.Node, perm: list[int]) -> Move | None:
    found = _source(node)
    if found is None:
        return None
    inner, _, between, after = found
    groups = _groups(between, after)
    if groups is None or sum(not isinstance(d, int) for d in after) > 1 or not all(left for left, _ in groups):
        return None
    # Where each group starts among the axes before the transpose; inside a group the axes must follow each other there.
    starts = []
    for left, _ in groups:
        sources = [perm[a] for a in left]
        if sources != list(range(sources[0], sources[0] + len(sources))):
            return None
        starts.append(sources[0])
    order = sorted(range(len(groups)), key=lambda g: starts[g])
    axes = [axis for g in order for axis in groups[g][1]]  # the output's axes, in the order before the transpose
    back = inverse(axes)
    shape = [after[a] for a in axes]

    def move() -> None:
        from dlbridge.passes.layout.rules import _constant

        graph = node.graph
        assert graph is not None
        target = np.array([d if isinstance(d, int) else -1 for d in shape], np.int64)
        node.replace_input_with(0, inner)
        node.replace_input_with(1, _constant(graph, target, f"{node.name}_shape_permuted", ir.DataType.INT64))
        node.attributes.pop("allowzero", None)
        if back != list(range(len(back))):
            move_after(node, node.outputs[0], back, f"{node.name}_transposed")

    return move


def _into_linear(node: ir.Node, perm: list[int]) -> Move | None:
    """The features of a Linear come in another order: so do the columns of its weight."""
    found = _source(node)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    if found is None or axis != 1 or perm[0] != 0:
        return None
    inner, _, between, _ = found
    linear = _next_linear(node.outputs[0])
    sizes = between[1:]
    if linear is None or not all(isinstance(d, int) for d in sizes):
        return None
    weight = linear.inputs[1]
    if weight is None or not weight.is_initializer() or weight.shape is None:
        return None

    def move() -> None:
        from dlbridge.passes.layout.rules import _reshape

        graph = linear.graph
        assert graph is not None and weight.shape is not None
        rows = int(weight.shape[0])  # type: ignore[arg-type]
        opened = _reshape(linear, weight, [rows, *sizes])  # type: ignore[list-item]
        moved = transpose(opened, inverse(perm), f"{linear.name}_weight_permuted")
        graph.insert_before(linear, moved)
        closed = _reshape(linear, moved.outputs[0], [rows, math.prod(sizes)])  # type: ignore[arg-type]
        linear.replace_input_with(1, closed)
        node.replace_input_with(0, inner)

    return move


def _next_linear(value: ir.Value) -> ir.Node | None:
    while True:
        readers = value.consumers()
        if len(readers) != 1 or value.is_graph_output() or readers[0].inputs[0] is not value:
            return None
        node = readers[0]
        if is_op(node, "Linear"):
            return node
        if (node.domain, node.op_type) not in _FEATURE_WISE:
            return None
        value = node.outputs[0]
