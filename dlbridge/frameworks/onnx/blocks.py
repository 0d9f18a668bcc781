"""Blocks of a graph that is read from an ONNX file: which nodes belong to which, after their names are known.

``collapse`` runs after ``passes.lift``: a module that came out as one node gives that node its own path.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from dlbridge.frameworks.onnx.naming import SCOPES, weights_of
from dlbridge.frameworks.onnx.weight_blocks import assign_scope_of_weights
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import prefixes, unique
from dlbridge.passes.lift.pattern import WANTED_PATH
from dlbridge.passes.scopes import become_module, common_scope, differ_only_in_numbers, move_into_block

#: Ops that only change shape or type, which are never the main op of a layer.
_SHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast"})


def collapse(graph: ir.Graph, own: set[str]) -> None:
    """Make the paths of nodes and modules consistent; in place.

    The only node of a module gets the module's path; a node that has the path of a module with other nodes is moved
    into that module.

    Args:
        graph: The graph.
        own: Names of initializers that are the file's; others are renamed with their node.
    """
    nodes = list(graph.all_nodes())
    taken = {node.name for node in nodes}
    scopes = {prefix for node in nodes for prefix in prefixes(traits.scope(node))}
    for node in nodes:
        if node.name in scopes:
            _rename_weights(node, move_into_block(node, taken), own)
    inside = Counter(prefix for node in nodes for prefix in prefixes(traits.scope(node)))
    for node in nodes:
        scope = traits.scope(node)
        is_only_node = scope and inside[scope] == 1 and scope not in taken
        if is_only_node and all(v.name.startswith(f"{scope}.") for v in weights_of(node)):
            become_module(node, scope, taken)
    for node in nodes:
        wanted = node.meta.get(WANTED_PATH, node.name)
        if node.name.rpartition("_")[0] == wanted and wanted not in taken and wanted not in inside:
            taken.add(wanted)
            old, node.name = node.name, wanted
            _rename_weights(node, old, own)
    traits.set_blocks(graph, {path: name for path, name in traits.blocks(graph).items() if path not in taken})


def _rename_weights(node: ir.Node, old: str, own: set[str]) -> None:
    """Rename the weights that were named after a node."""
    names = node.graph.initializers if isinstance(node.graph, ir.Graph) else {}
    for value in weights_of(node):
        fresh = f"{node.name}.{value.name.removeprefix(f'{old}.')}"
        if value.name not in own and value.name.startswith(f"{old}.") and fresh not in names:
            value.name = fresh


def join_layers(graph: ir.Graph, own: set[str]) -> None:
    """Replace each layer's scope in tf2onnx's names by names side by side: ``dense`` and ``dense_softmax``; in place.

    The op that reads the weights (if none does, the last one that computes) is the layer. A scope with several such ops
    is a block and stays a block.
    """
    nodes = list(graph.all_nodes())
    taken = {node.name for node in nodes}
    members: dict[str, list[ir.Node]] = {}
    for node in nodes:
        members.setdefault(traits.scope(node), []).append(node)
    holders = {prefix for scope in members for prefix in prefixes(scope.rpartition(".")[0])}
    for scope, inside in members.items():
        named = [node for node in nodes if node.name == scope]
        weighted = named + [node for node in inside if weights_of(node)]
        if not scope or scope in holders or len(weighted) > 1:
            continue
        computing = [node for node in inside if op_key(node) not in _SHAPING]
        layer = (weighted or computing or inside)[-1]
        for node in inside:
            old, leaf = node.name, node.name.rpartition(".")[2]
            node.name = unique(scope if node is layer else f"{scope}_{leaf}", taken)
            if node is layer:
                node.metadata_props.pop(traits.ANONYMOUS, None)
            _rename_weights(node, old, own)


def assign_scope_of_neighbours(graph: ir.Graph) -> None:
    """Put nodes that have no scope into the innermost scope that their neighbours share; in place.

    The optimizer of torch.onnx makes such nodes. One that reads an input of the model, or makes an output, stays
    outside of all blocks. Where no node says its scope, the names of the weights tell of blocks.
    """
    if not any(SCOPES in node.metadata_props for node in graph):
        assign_scope_of_weights(graph)
        return
    taken = {node.name for node in graph}
    for node in graph:
        if SCOPES in node.metadata_props or traits.scope(node) or not traits.is_anonymous(node) or weights_of(node):
            continue
        scope = _scope_of_neighbours(node)
        if scope:
            taken.discard(node.name)
            wanted = f"{scope}.{node.op_type.lower()}"
            node.name, node.meta[WANTED_PATH] = unique(wanted, taken), wanted


def _scope_of_neighbours(node: ir.Node) -> str:
    inputs = [v for v in node.inputs if v is not None and not v.is_initializer()]
    if any(v.is_graph_input() for v in inputs) or any(v.is_graph_output() for v in node.outputs):
        return ""
    neighbours = [v.producer() for v in inputs] + [use.node for v in node.outputs for use in v.uses()]
    return common_scope([traits.scope(each) for each in neighbours if each is not None]) if neighbours else ""


def hoist_shared(graph: ir.Graph) -> None:
    """Move nodes of one instance of a repeated block that all instances use to before the first instance; in place.

    Exporters merge equal computations: the mask that each layer of a decoder makes of the model's inputs is made in
    layer 0, and read in layer 1. Only what no weight has a part in is moved.
    """
    taken = {node.name for node in graph}
    for node in list(graph):
        block = _shared_block(node)
        moved = _made_inside(node, block) if block is not None else None
        if not moved:
            continue
        order = {each: place for place, each in enumerate(graph)}
        first = next(each for each in graph if each not in moved and block in prefixes(traits.scope(each)))
        makers = [v.producer() for each in moved for v in each.inputs if v is not None and v.producer() is not None]
        if any(order[maker] > order[first] for maker in makers if maker not in moved):
            continue
        outer, _, last = block.rpartition(".")
        outer = outer.rpartition(".")[0] if last.isdigit() else outer  # a list of blocks holds blocks alone
        for each in moved:
            graph.remove(each)
            graph.insert_before(first, each)
            taken.discard(each.name)
            each.name = unique(".".join(filter(None, (outer, each.name.rpartition(".")[2]))), taken)
            each.meta[WANTED_PATH] = each.name


def _shared_block(node: ir.Node) -> str | None:
    """The outermost block around an unnamed node whose result is read both in it and in another instance of it."""
    scope = traits.scope(node)
    if not traits.is_anonymous(node) or not scope:
        return None
    readers = [traits.scope(use.node) for value in node.outputs for use in value.uses()]
    for block in prefixes(scope):
        level = block.count(".") + 1
        others = {".".join(reader.split(".")[:level]) for reader in readers}
        if block in others and any(other != block and differ_only_in_numbers(other, block) for other in others):
            return block
    return None


def _made_inside(node: ir.Node, block: str) -> list[ir.Node] | None:
    """The nodes inside a block on which a node depends, and itself; None if a weight or a named layer is among them."""
    if not traits.is_anonymous(node) or weights_of(node):
        return None
    found: list[ir.Node] = []
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if maker is not None and block in prefixes(traits.scope(maker)):
            more = _made_inside(maker, block)
            if more is None:
                return None
            found += [each for each in more if each not in found]
    return [*found, node]
