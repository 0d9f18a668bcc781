"""Layout: spatial ops in channels-last form between transposes, and transposes cancelled or moved by rules that each
keep the meaning. Nothing is guessed from sizes, so the result is always right; how many transposes are left is speed.

A node of the domain ``dlbridge.channels_last`` means: transpose input 0 to channels-first, the standard's op, transpose
output 0 back.
"""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import unique
from dlbridge.passes.layout.axes import permuted, to_first, to_last
from dlbridge.passes.layout.rules import SINKS
from dlbridge.passes.layout.transposes import cancel, is_transpose, move_after, sink, transpose

DOMAIN = "dlbridge.channels_last"

#: Ops whose input 0 and output 0 are (batch, channels, spatial...), and which Keras has channels-last.
SPATIAL_OPS = {
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LRN",
    "DepthToSpace",
    "SpaceToDepth",
}


def channels_last(model: Model, *, io_layout: str = "same") -> Model:
    """A model whose spatial ops are channels-last, with as few transposes as the rules leave.

    Args:
        model: It is changed in place; every shape must be inferred.
        io_layout: ``"same"`` keeps the layout of inputs and outputs; ``"native"`` makes an input channels-last that is
            transposed first of all, and an output that is transposed last of all.

    Returns:
        The model.
    """
    graph = model.graph
    for node in list(graph.all_nodes()):  # those of subgraphs too, whose transposes stay where they are
        if op_key(node) in SPATIAL_OPS and _is_spatial(node):
            _wrap(node)
    simplify(graph)
    if io_layout == "native":
        _move_interface(graph)
        simplify(graph)
    return model


def simplify(graph: ir.Graph, *, reshapes: bool = True) -> None:
    """Cancel and move the transposes of a graph until no rule applies.

    Args:
        graph: It is changed in place.
        reshapes: Move them behind reshapes too, which may put them on the weights of what follows.
    """
    rules = SINKS if reshapes else {key: rule for key, rule in SINKS.items() if key[1] not in ("Reshape", "Flatten")}
    changed = True
    while changed:
        changed = False
        for node in list(graph):
            if node.graph is not None and is_transpose(node):
                changed |= cancel(node) or sink(node, rules)
    _remove_dead(graph)
    _finish(graph)


def to_standard(model: Model) -> Model:
    """The inverse of the wrapping: every channels-last node as the standard's op between transposes, in place."""
    graph = model.graph
    for node in list(graph):
        if node.domain == DOMAIN:
            x, y = node.inputs[0], node.outputs[0]
            assert x is not None and x.shape is not None
            rank = len(x.shape)
            before = transpose(x, to_first(rank), f"{node.name}_to_channels_first")
            graph.insert_before(node, before)
            node.replace_input_with(0, before.outputs[0])
            node.domain = ""
            move_after(node, y, to_last(rank), f"{node.name}_to_channels_last")
    _finish(graph)
    return model


def _is_spatial(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    read = any(o.name and (o.uses() or o.is_graph_output()) for o in node.outputs[1:])
    return shape is not None and len(shape) >= 3 and not read


def _wrap(node: ir.Node) -> None:
    x, y, graph = node.inputs[0], node.outputs[0], node.graph
    assert x is not None and x.shape is not None and graph is not None
    rank = len(x.shape)
    before = transpose(x, to_last(rank), f"{node.name}_to_channels_last")
    graph.insert_before(node, before)
    node.replace_input_with(0, before.outputs[0])
    node.domain = DOMAIN
    move_after(node, y, to_first(rank), f"{node.name}_to_channels_first")


def _move_interface(graph: ir.Graph) -> None:
    """Make inputs and outputs channels-last whose only reader or maker is the transpose to or from it."""
    for value in list(graph.inputs):
        rank = len(value.shape) if value.shape is not None else 0
        if rank < 3 or value.is_initializer():
            continue
        before = ir.node("Transpose", [], {"perm": to_first(rank)}, name=f"{value.name}_to_channels_first")
        readers = value.consumers()
        if not readers or not all(
            is_transpose(n) and list(n.attributes["perm"].as_ints()) == to_last(rank) for n in readers
        ):
            continue
        out = before.outputs[0]
        out.dtype, out.shape = value.dtype, value.shape
        ir.convenience.replace_all_uses_with(value, out)
        before.resize_inputs(1)
        before.replace_input_with(0, value)
        value.shape = permuted(value.shape, to_last(rank))
        value.metadata_props[traits.LAYOUT] = "channels_last"
        graph.insert_before(graph[0], before)
    for index, value in enumerate(graph.outputs):
        maker = value.producer()
        rank = len(value.shape) if value.shape is not None else 0
        if (
            maker is None
            or rank < 3
            or not is_transpose(maker)
            or list(maker.attributes["perm"].as_ints()) != to_first(rank)
        ):
            continue
        inner = maker.inputs[0]
        if inner is not None and not value.uses() and not inner.is_graph_input() and not inner.is_graph_output():
            name, value.name = value.name, f"{value.name}_channels_first"
            inner.name = name
            inner.metadata_props[traits.LAYOUT] = "channels_last"
            graph.outputs[index] = inner


def _finish(graph: ir.Graph) -> None:
    """Nodes in an order that can run, and names that are unique."""
    graph.sort()
    taken = {*graph.initializers, *(v.name or "" for v in (*graph.inputs, *graph.outputs))}
    nodes: set[str] = set()
    for node in graph:
        if is_transpose(node) and traits.CLASS not in node.metadata_props:
            node.metadata_props[traits.ANONYMOUS] = "true"
            if _is_at_interface(node):
                node.name = (node.name or "").rpartition(".")[2]
        node.name = unique(node.name or "", nodes)
        for value in node.outputs:
            if value.name and not value.is_graph_output():
                value.name = unique(value.name.removesuffix("_permuted"), taken)


def _is_at_interface(node: ir.Node) -> bool:
    """Whether a transpose turns an input or an output: that stands in the model itself, not in the block beside it."""
    x, y = node.inputs[0], node.outputs[0]
    return x is not None and (x.is_graph_input() or (y.is_graph_output() and not y.uses()))


def _remove_dead(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(o.uses() or o.is_graph_output() for o in node.outputs):
            graph.remove(node, safe=True)


__all__ = ["DOMAIN", "SPATIAL_OPS", "channels_last", "permuted", "simplify", "to_first", "to_last", "to_standard"]
