"""Which blocks become functions in Keras: those that call layers on what follows from an input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FORM
from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.source import blocks
from dlbridge.source.blocks import is_weight
from dlbridge.source.condense.steps import MIN_STEPS
from dlbridge.source.op import Emit

#: Ops that Keras computes without a layer too, on a weight that is handed to the block.
_WITHOUT_LAYER = frozenset({"Conv", "ConvTranspose", "Embedding", "LayerNormalization", "Linear", "RMSNormalization"})


def free_shared(graph: ir.Graph) -> bool:
    """Legalise the nodes that are to be written without a layer, as other nodes read their weights, too; in place.

    A layer lives in one block, elsewhere nothing could call it; and its weight is a variable of its own, which would
    train apart from what an operation reads.

    Returns:
        Whether there was one.
    """
    rewriter = Rewriter(graph)
    for nodes in _sharing(graph):
        for node in nodes:
            if layer_key(node) in _WITHOUT_LAYER:
                Site(node, rewriter).set_form(FORM, free=1)
    return rewriter.changed


def _sharing(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """The nodes that read one weight, for each weight that nodes of several blocks or ops read."""
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        for value in dict.fromkeys(node.inputs):
            if value is not None and is_weight(value) and traits.kind(value) != "constant":
                readers.setdefault(value, []).append(node)
    for nodes in readers.values():
        if len({(traits.scope(node), layer_key(node)) for node in nodes}) > 1:
            yield nodes


def block_tree(
    graph: ir.Graph, emits: Mapping[ir.Node, Emit], returned: list[ir.Value], lists: Iterable[str] = ()
) -> blocks.Block:
    """The blocks but the dissolved ones (``source.blocks.build``), among them the ``lists``.

    One that sees no input stands in the block around it: Keras calls no layer without an argument. So do those that
    share a layer, in the block that has it; and those that are called again and again, whose calls become a loop there.
    """
    dissolved = _around_shared(graph) | _called_in_steps(graph) | set(lists)
    while True:
        root = blocks.build(graph, emits, returned, dissolved)
        blind = {block.path for block in root.blocks() if block.path and not block.inputs}
        if not blind:
            return root
        dissolved = dissolved | blind


def _around_shared(graph: ir.Graph) -> set[str]:
    """The blocks that share a layer, but the one that has it."""
    dissolved: set[str] = set()
    for nodes in _sharing(graph):
        kinds = {layer_key(node) for node in nodes}
        if len(kinds) == 1 and not kinds <= _WITHOUT_LAYER:
            dissolved |= _below_common([traits.scope(node) for node in nodes])
    return dissolved


def _called_in_steps(graph: ir.Graph) -> set[str]:
    """The blocks of modules that are called as often as a loop has steps."""
    return {path for node in graph for path, call in traits.calls(node).items() if call + 1 >= MIN_STEPS}


def _below_common(scopes: list[str]) -> set[str]:
    """The blocks that some of the scopes stand in, but not all."""
    around = [{scope[: dot.start()] for dot in re.finditer(r"\.|\Z", scope)} for scope in scopes]
    return set.union(*around) - around[0].intersection(*around) - {""}
