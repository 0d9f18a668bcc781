"""Weights that several blocks read: a layer lives in one block, so elsewhere nothing could call it."""

from __future__ import annotations

import re

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import SHARED
from dlbridge.ops import traits
from dlbridge.source.blocks import is_weight

#: Ops that Keras computes without a layer too, on a weight that is handed to the block.
_WITHOUT_LAYER = frozenset({"Conv", "ConvTranspose", "Embedding", "LayerNormalization", "Linear", "RMSNormalization"})


def mark_shared(graph: ir.Graph) -> set[str]:
    """Mark the nodes that are to be written without a layer, as their weights are those of other layers; in place.

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
        if len({(traits.scope(node), node.op_type) for node in nodes}) == 1:
            continue
        if all(node.op_type in _WITHOUT_LAYER for node in nodes):
            for node in nodes:
                node.meta[SHARED] = True
        elif len({node.op_type for node in nodes}) == 1:
            dissolved |= _below_common([traits.scope(node) for node in nodes])
    return dissolved


def _below_common(scopes: list[str]) -> set[str]:
    """The blocks that some of the scopes stand in, but not all."""
    around = [{scope[: dot.start()] for dot in re.finditer(r"\.|\Z", scope)} for scope in scopes]
    return set.union(*around) - set.intersection(*around) - {""}
