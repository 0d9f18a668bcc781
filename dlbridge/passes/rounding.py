"""A model of a narrower float type as runtimes without kernels of that type can run it."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.narrowing import Narrow
from dlbridge.passes.precision import TYPES, convert_node, convert_tensor
from dlbridge.passes.rewriter import Rewriter, Site


def rounded(model: ir.Model, dtype: Narrow) -> ir.Model:
    """A copy of a narrowed model that computes in float32 and rounds each result of the narrow type to it.

    Runtimes without kernels of the narrow type can run it. What they round in between is float32, as kernels that
    accumulate in float32 have it.
    """
    target = TYPES[dtype]
    copy = model.clone()
    graph, rewriter = copy.graph, Rewriter(copy.graph)
    for value in graph.initializers.values():
        if value.dtype == target and value.const_value is not None:
            value.const_value = convert_tensor(value.const_value, ir.DataType.FLOAT, target)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for value in graph.inputs:
        if value.dtype == target:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in list(graph):
        narrow = [value for value in node.outputs if value.dtype == target]
        convert_node(Site(node, rewriter), ir.DataType.FLOAT, was=target)
        for value in narrow:
            _round_after(node, value, target, rewriter)
    return copy


def _round_after(node: ir.Node, value: ir.Value, target: ir.DataType, rewriter: Rewriter) -> None:
    """Let what reads a value read it rounded; the rounded one has its name."""
    name = value.name or ""
    uses = list(value.uses())
    down = rewriter.insert(node, "Cast", "rounded", [value], {"to": int(target)}, after=True)
    up = rewriter.insert(down, "Cast", "widened", [down.outputs[0]], {"to": int(ir.DataType.FLOAT)}, after=True)
    made = up.outputs[0]
    down.outputs[0].type, made.type = ir.TensorType(target), ir.TensorType(ir.DataType.FLOAT)
    down.outputs[0].shape = made.shape = value.shape
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    graph = rewriter.graph
    for slot, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[slot] = made
    value.name = rewriter.value_name(f"{name}_exact")
    made.name = name
