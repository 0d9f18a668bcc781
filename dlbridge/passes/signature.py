"""Signatures: a graph that another exporter wrote gets the names that the model gives its inputs, outputs and dims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from dlbridge.errors import DlbridgeError
from dlbridge.passes import shapes

if TYPE_CHECKING:
    from dlbridge.model import Model


def rename(graph: ir.Graph, model: Model) -> None:
    """Name the inputs, outputs and symbolic dims of ``graph`` as ``model`` does, in place; they pair by position.

    Raises:
        DlbridgeError: When there are not as many, or one has another rank.
    """
    model = model.clone()
    shapes.infer(model.ir)
    inputs = [v for v in graph.inputs if not v.is_initializer()]
    _check_count("inputs", inputs, model.inputs)
    _check_count("outputs", graph.outputs, model.outputs)
    _separate_outputs(graph)
    pairs = [*zip(inputs, model.inputs, strict=True), *zip(graph.outputs, model.outputs, strict=True)]
    wanted = {ours.name: value for value, ours in pairs}
    for value in (*graph.inputs, *graph.initializers.values(), *(o for n in graph.all_nodes() for o in n.outputs)):
        if value.name in wanted and wanted[value.name] is not value:
            value.name = f"{value.name}.inner"
    dims: dict[str, str | int] = {}
    for value, ours in pairs:
        _collect_dims(value, ours, dims)
        value.name = ours.name
    for value in (*graph.inputs, *(o for n in graph.all_nodes() for o in n.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([dims.get(str(s), s) if not isinstance(s, int) else s for s in value.shape])
    for value, ours in pairs:
        if ours.shape is not None:
            value.shape = ir.Shape(list(ours.shape))


def _check_count(what: str, found: Sequence[ir.Value], wanted: Sequence[ir.Value]) -> None:
    if len(found) != len(wanted):
        names = ", ".join(str(v.name) for v in found)
        raise DlbridgeError(f"the exporter wrote {len(found)} {what} ({names}), the model has {len(wanted)}")


def _separate_outputs(graph: ir.Graph) -> None:
    """Give an output that is also an input, or is listed twice, a value of its own."""
    for index, value in enumerate(list(graph.outputs)):
        if value.is_graph_input() or value.is_initializer() or any(v is value for v in graph.outputs[:index]):
            copy = ir.node("Identity", [value], name=f"{value.name}.output_{index}")
            copy.outputs[0].name = f"{value.name}.output_{index}"
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]


def _collect_dims(value: ir.Value, ours: ir.Value, dims: dict[str, str | int]) -> None:
    """Add the exporter's name of each symbolic dim -> the model's."""
    if value.shape is None or ours.shape is None:
        return
    if len(value.shape) != len(ours.shape):
        raise DlbridgeError(
            f"the exporter wrote it with shape {value.shape}, in the model it is {ours}", where=ours.name
        )
    for theirs, named in zip(value.shape, ours.shape, strict=True):
        text = str(theirs)
        if not isinstance(theirs, int) and theirs.value is not None:
            name = named if isinstance(named, int) else named.value
            if name is not None:
                dims.setdefault(text, name)
