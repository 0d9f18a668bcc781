"""The blocks of a Keras model: each calls layers of its own, and sees something of the input."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import SHARED
from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.source import blocks
from dlbridge.source.blocks import is_weight
from dlbridge.source.op import Emit

#: Ops that Keras computes without a layer too, on a weight that is handed to the block.
_WITHOUT_LAYER = frozenset({"Conv", "ConvTranspose", "Embedding", "LayerNormalization", "Linear", "RMSNormalization"})


def mark_shared(graph: ir.Graph) -> set[str]:
    """Mark the nodes that are to be written without a layer, as their weights are those of other layers; in place.

    A layer lives in one block; elsewhere nothing could call it.

    Returns:
        The blocks to be dissolved, so that layers that must be layers are called in the block that has them.
    """
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        for value in dict.fromkeys(node.inputs):
            if value is not None and is_weight(value) and traits.kind(value) != "constant":
                readers.setdefault(value, []).append(node)
    dissolved: set[str] = set()
    for nodes in readers.values():
        if len({(traits.scope(node), layer_key(node)) for node in nodes}) == 1:
            continue
        if all(layer_key(node) in _WITHOUT_LAYER for node in nodes):
            for node in nodes:
                node.meta[SHARED] = True
        elif len({layer_key(node) for node in nodes}) == 1:
            dissolved |= _below_common([traits.scope(node) for node in nodes])
    return dissolved


def block_tree(
    graph: ir.Graph, emits: Mapping[ir.Node, Emit], leaving: list[ir.Value], dissolved: set[str]
) -> blocks.Block:
    """The blocks but the dissolved ones (``source.blocks.build``).

    One that sees no input stands in the block around it: Keras calls no layer without an argument.
    """
    while True:
        root = blocks.build(graph, emits, leaving, dissolved)
        blind = {block.path for block in root.blocks() if block.path and not block.inputs}
        if not blind:
            return root
        dissolved = dissolved | blind


def _below_common(scopes: list[str]) -> set[str]:
    """The blocks that some of the scopes stand in, but not all."""
    around = [{scope[: dot.start()] for dot in re.finditer(r"\.|\Z", scope)} for scope in scopes]
    return set.union(*around) - set.intersection(*around) - {""}
