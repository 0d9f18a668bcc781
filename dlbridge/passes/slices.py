"""Slices of slices along other axes become one, as a person writes them: ``mask[:, :, :t][:, :, :, :t]``."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.passes.constants import constant, new_constant


def join_slices(graph: ir.Graph) -> None:
    """Join a slice with the one that it reads, where nothing else reads that one; in place."""
    for node in list(graph):
        before = node.inputs[0].producer() if is_op(node, "Slice") and node.inputs[0] is not None else None
        if before is None or not is_op(before, "Slice") or before.graph is not graph or not _is_read_once(before):
            continue
        first, second = _parts(before), _parts(node)
        if first is None or second is None or set(first[0]) & set(second[0]):
            continue
        axes, steps = ([*a, *b] for a, b in zip(first, second, strict=True))
        bounds = [_joined(graph, node, before, slot) for slot in (1, 2)]
        along = [new_constant(graph, f"{node.name}_{what}", of) for what, of in (("axes", axes), ("steps", steps))]
        node.resize_inputs(5)
        for slot, value in enumerate([before.inputs[0], *bounds, *along]):
            node.replace_input_with(slot, value)
        graph.remove(before, safe=True)


def _is_read_once(node: ir.Node) -> bool:
    return len(node.outputs[0].uses()) == 1 and not node.outputs[0].is_graph_output()


def _parts(node: ir.Node) -> tuple[list[int], list[int]] | None:
    """Axes, counted from the front, and steps, where they are known and its bounds are int64."""
    numbers = [_numbers(v) for v in node.inputs[3:]]
    shape = node.inputs[0].shape  # type: ignore[union-attr]
    bounds = all(v is not None and v.dtype == ir.DataType.INT64 for v in node.inputs[1:3])
    if not numbers or numbers[0] is None or None in numbers[1:] or shape is None or not bounds:
        return None
    steps = numbers[1] if len(numbers) > 1 else None
    return [a % len(shape) for a in numbers[0]], steps or [1] * len(numbers[0])


def _numbers(value: ir.Value | None) -> list[int] | None:
    tensor = constant(value)
    return None if tensor is None else [int(i) for i in tensor.numpy().reshape(-1)]


def _joined(graph: ir.Graph, node: ir.Node, before: ir.Node, slot: int) -> ir.Value:
    """The starts, or ends, of both as one vector."""
    values = [before.inputs[slot], node.inputs[slot]]
    name = f"{node.name}_{'starts' if slot == 1 else 'ends'}"
    known = [_numbers(v) for v in values]
    if None not in known:
        return new_constant(graph, name, [i for part in known for i in part or ()])
    made = ir.node("Concat", values, {"axis": 0}, name=name)
    made.metadata_props[traits.ANONYMOUS] = "true"
    made.outputs[0].name, made.outputs[0].dtype = name, ir.DataType.INT64
    graph.insert_before(node, made)
    return made.outputs[0]
