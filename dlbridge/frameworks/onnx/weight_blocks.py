"""Blocks of a graph whose nodes say nothing of modules, from the names of its weights alone.

``layer1.0.conv1.weight`` and ``layer1.0.conv2.weight`` tell that there is a block ``layer1.0``. What is computed
between and behind its layers belongs to it as well, as far as all blocks that differ only in their numbers have it: the
pooling behind the last of them is none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

from dlbridge.frameworks.onnx.naming import weights_of
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import prefixes, unique
from dlbridge.passes.lift.pattern import WANTED_PATH
from dlbridge.passes.scopes import common_scope


def assign_scope_of_weights(graph: ir.Graph) -> bool:
    """Put unnamed nodes into the blocks of the layers that they follow, in place; whether any was.

    A graph in which an unnamed node is in a block already has said itself what belongs to its blocks.
    """
    nodes = list(graph)
    if any(traits.is_anonymous(node) and traits.scope(node) for node in nodes):
        return False
    places = {node: place for place, node in enumerate(nodes)}
    scopes = {node: traits.scope(node) for node in nodes}
    firsts: dict[str, int] = {}
    for node in nodes:
        for prefix in prefixes(scopes[node]):
            firsts.setdefault(prefix, places[node])
    free: set[ir.Node] = set()
    for node in nodes:
        if traits.is_anonymous(node):
            makers = [v.producer() for v in node.inputs if v is not None]
            if all(maker is None or maker in free for maker in makers) and not weights_of(node):
                free.add(node)
            scopes[node] = _scope(node, scopes, places, firsts, free)
    for node in reversed(nodes):
        if node in free:
            scopes[node] = _scope_of_readers(node, scopes, places, firsts)
    added = [node for node in nodes if traits.is_anonymous(node) and scopes[node]]
    _keep_common(nodes, scopes, added)
    taken = {node.name for node in nodes if node.name is not None}
    for node in added:
        if scopes[node]:
            taken.discard(node.name or "")
            wanted = f"{scopes[node]}.{node.op_type.lower()}"
            node.name, node.meta[WANTED_PATH] = unique(wanted, taken), wanted
    return bool(added)


def _is_in(scope: str, block: str) -> bool:
    return scope == block or scope.startswith(f"{block}.")


def _scope_of_readers(
    node: ir.Node, scopes: Mapping[ir.Node, str], places: Mapping[ir.Node, int], firsts: Mapping[str, int]
) -> str:
    """The block for which a node that depends on inputs of the model alone is computed, if it stands within that."""
    if any(value.is_graph_output() for value in node.outputs):
        return ""
    block = common_scope([scopes.get(use.node, "") for value in node.outputs for use in value.uses()])
    return block if block and places[node] > firsts.get(block, 0) else ""


def _scope(
    node: ir.Node,
    scopes: Mapping[ir.Node, str],
    places: Mapping[ir.Node, int],
    firsts: Mapping[str, int],
    free: set[ir.Node],
) -> str:
    """The block of the last of a node's inputs, or one around it that holds the others too.

    Another input may come from outside, where the block reads it elsewhere (what a residual adds), where it is of no
    block and there before, or where it depends on inputs of the model alone (a mask): these are ``free``.
    """
    makers = {
        v: maker for v in node.inputs if v is not None and (maker := v.producer()) is not None and maker in places
    }
    bound = [maker for maker in makers.values() if maker not in free]
    if not bound:
        return ""
    block = scopes[max(bound, key=places.__getitem__)]
    for value, maker in makers.items():
        if not block or maker in free or _is_in(scopes[maker], block):
            continue
        is_read = any(use.node is not node and _is_in(scopes.get(use.node, ""), block) for use in value.uses())
        is_early = not scopes[maker] and places[maker] < firsts.get(block, 0)
        if not is_read and not is_early:
            block = common_scope([block, scopes[maker]])
    return block


def _keep_common(nodes: list[ir.Node], scopes: dict[ir.Node, str], added: list[ir.Node]) -> None:
    """Take out of each block what stands behind its layers and is not behind those of all blocks of its kind."""
    tails: dict[str, list[ir.Node]] = {}
    for node in nodes:
        for block in prefixes(scopes[node]):
            tail = tails.setdefault(block, [])
            if node in added:
                tail.append(node)
            else:
                tail.clear()
    kinds: dict[str, list[str]] = {}
    for block in tails:
        kinds.setdefault(re.sub(r"\d+", "#", block), []).append(block)
    for blocks in sorted(kinds.values(), key=lambda found: -found[0].count(".")):
        kept = 0
        if len(blocks) > 1:
            ops = [[op_key(node) for node in tails[block] if _is_in(scopes[node], block)] for block in blocks]
            while all(len(each) > kept for each in ops) and len({each[kept] for each in ops}) == 1:
                kept += 1
        for block in blocks:
            for node in [node for node in tails[block] if _is_in(scopes[node], block)][kept:]:
                scopes[node] = ""
