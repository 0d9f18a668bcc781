"""Moves constants into the initializers of the main graph, and merges equal ones."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.names import unique
from dlbridge.passes.matching import Match, constant, match
from dlbridge.passes.rewriter import Rewriter

#: Constants up to this many elements are merged when they are equal.
_MERGED_ELEMENTS = 4096


def lift_constants(graph: ir.Graph) -> bool:
    """Turn all ``Constant`` nodes and the initializers of subgraphs into initializers of the main graph, in place.

    Returns:
        Whether there were any.
    """
    rewriter = Rewriter(graph)
    rewriter.changed = _hoist_initializers(graph)
    for node in list(graph.all_nodes()):
        found = match(node, "Constant")
        if found is None or found.output.is_graph_output():
            continue
        tensor = _constant_tensor(found)
        if tensor is not None:
            replace_by_constant(rewriter, node, tensor)
    return rewriter.changed


def _hoist_initializers(graph: ir.Graph) -> bool:
    """Move the initializers of subgraphs to the main graph; whether there were any."""
    held = [(sub, name, v) for sub in graph.subgraphs() for name, v in sub.initializers.items()]
    held = [(sub, name, v) for sub, name, v in held if not v.is_graph_input() and not v.is_graph_output()]
    if not held:
        return False
    taken = {str(v.name) for v in graph.inputs} | set(graph.initializers)
    taken |= {str(v.name) for node in graph.all_nodes() for v in node.outputs}
    for subgraph, name, value in held:
        del subgraph.initializers[name]
        value.name = unique(name, taken)
        graph.register_initializer(value)
    return True


def _constant_tensor(node: Match) -> ir.TensorProtocol | None:
    """What a Constant node holds; None for strings and sparse tensors."""
    ((name, attribute),) = node.node.attributes.items()
    if name == "value":
        return attribute.as_tensor()
    if name in ("value_float", "value_floats"):
        return ir.tensor(attribute.value, dtype=ir.DataType.FLOAT)
    if name in ("value_int", "value_ints"):
        return ir.tensor(attribute.value, dtype=ir.DataType.INT64)
    return None


def replace_by_constant(rewriter: Rewriter, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    """Replace a node by an initializer of the main graph, which takes over the name of its only output."""
    output = node.outputs[0]
    name, output.name = output.name or "constant", None
    value = rewriter.add_initializer(name, tensor)
    traits.keep_variable(output, value)
    output.replace_all_uses_with(value)
    rewriter.erase(node)


def merge_constants(graph: ir.Graph) -> bool:
    """Merge equal constants into the first one. Each block keeps its own, because equal blocks become one class.

    Returns:
        Whether there were any.
    """
    first: dict[tuple[object, ...], ir.Value] = {}
    changed = False
    for name, value in list(graph.initializers.items()):
        key = _merging_key(value)
        if key is None:
            continue
        kept = first.setdefault(key, value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            del graph.initializers[name]
            changed = True
    return changed


def _merging_key(value: ir.Value) -> tuple[object, ...] | None:
    """The key that constants which may be merged share; None for a constant that is not merged."""
    tensor = constant(value)
    if tensor is None or tensor.size > _MERGED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return None
    if tensor.size > 1 and tensor.dtype.is_floating_point():
        return None  # may be the weights of two layers that only start as equals
    if value.is_graph_output():
        return None
    scopes = frozenset(traits.scope(use.node) for use in value.uses()) if tensor.size > 1 else None
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes(), scopes


__all__ = ["constant", "lift_constants", "merge_constants", "replace_by_constant"]
