"""Layout: brings spatial ops into channels-last form, between transposes, which then are cancelled or moved.

Each rule that moves one keeps the meaning, and nothing is guessed from sizes, so the result is always right; how many
transposes are left decides how fast it is.

A node of the domain ``dlbridge.channels_last`` means: transpose input 0 to channels-first, the standard's op, transpose
output 0 back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import unique
from dlbridge.passes.layout import along_axes, elementwise, reshapes  # noqa: F401  (rules)
from dlbridge.passes.layout.axes import inverse, permuted, to_first, to_last
from dlbridge.passes.layout.rules import RULES
from dlbridge.passes.layout.transposes import cancel, insert_transpose, is_transpose, move_after, perm_of, sink
from dlbridge.passes.matching import Match, is_read, producer, rank
from dlbridge.passes.rewriter import Rewriter, Site

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


def channels_last(model: ir.Model, *, io_layout: str = "same") -> bool:
    """Bring the spatial ops of a model into channels-last form, with as few transposes as the rules leave, in place.

    Args:
        model: Every shape must be inferred.
        io_layout: ``"same"`` keeps the layout of inputs and outputs; ``"native"`` makes those channels-last that only a
            transpose to or from channels-last reads or computes.

    Returns:
        Whether anything was changed.
    """
    graph = model.graph
    rewriter = Rewriter(graph)
    for node in list(graph.all_nodes()):  # those of subgraphs too, whose transposes stay where they are
        if op_key(node) in SPATIAL_OPS and _is_spatial(node):
            _wrap(Site(node, rewriter))
    changed = rewriter.changed
    changed |= simplify(graph)
    if io_layout == "native":
        _move_interface(graph)
        simplify(graph)
        changed = True
    return changed


def simplify(graph: ir.Graph, *, through_reshapes: bool = True) -> bool:
    """Cancel and move the transposes of a graph until no rule applies; in place.

    Args:
        graph: It is changed in place.
        through_reshapes: Move them behind reshapes too, where they may end in the weights of the layer that follows.

    Returns:
        Whether a rule applied.
    """
    rules = RULES
    if not through_reshapes:
        rules = {key: rule for key, rule in RULES.items() if key[1] not in ("Reshape", "Flatten")}
    rewriter, changed, again = Rewriter(graph), False, True
    while again:
        again = False
        for node in list(graph):
            if node.graph is not None and is_transpose(node):
                again |= cancel(node, rewriter) or sink(node, rules, rewriter)
        changed |= again
    _remove_dead(graph)
    _finish(graph)
    return changed


def to_standard(model: ir.Model) -> None:
    """The inverse of the wrapping: every channels-last node as the standard's op between transposes, in place."""
    graph = model.graph
    rewriter = Rewriter(graph)
    for site in rewriter.sites():
        if site.node.domain == DOMAIN:
            _turn(site, to_first, "to_channels_first", "to_channels_last", "")
    _finish(graph)


def _is_spatial(node: ir.Node) -> bool:
    size = rank(node.inputs[0])
    return size is not None and size >= 3 and not any(o.name and is_read(o) for o in node.outputs[1:])


def _wrap(site: Site) -> None:
    _turn(site, to_last, "to_channels_last", "to_channels_first", DOMAIN)


def _turn(site: Site, turn: Callable[[int], list[int]], before: str, after: str, domain: str) -> None:
    """Put a node into the other layout, between a transpose into it and one back."""
    x = site.operand(0)
    assert x.shape is not None
    perm = turn(len(x.shape))
    site.set_input(0, insert_transpose(site.rewriter, site.node, before, x, perm))
    site.node.domain = domain
    move_after(site, inverse(perm), after)


def _move_interface(graph: ir.Graph) -> None:
    """Make inputs and outputs channels-last if a transpose to or from that is all that reads or computes them."""
    rewriter = Rewriter(graph)
    for value in list(graph.inputs):
        size = rank(value)
        readers = value.consumers()
        if size is None or size < 3 or value.is_initializer() or not readers:
            continue
        if all(_turns(node, to_last(size)) for node in readers):
            _move_input(value, readers, rewriter)
    for index, value in enumerate(graph.outputs):
        turn, size = producer(value, "Transpose"), rank(value)
        if turn is None or size is None or size < 3 or not _turns(turn.node, to_first(size)):
            continue
        inner = turn.operand(0)
        if not value.uses() and not inner.is_graph_input() and not inner.is_graph_output():
            name, value.name = value.name, f"{value.name}_channels_first"
            inner.name = name
            inner.metadata_props[traits.LAYOUT] = "channels_last"
            graph.outputs[index] = inner


def _turns(node: ir.Node, perm: list[int]) -> bool:
    """Whether a node is the Transpose by that permutation."""
    return is_transpose(node) and perm_of(Match(node)) == perm


def _move_input(value: ir.Value, readers: Sequence[ir.Node], rewriter: Rewriter) -> None:
    """Give the readers of an input, which is channels-last from now on, what it was."""
    assert value.shape is not None
    size, was = len(value.shape), value.shape
    first = rewriter.graph[0]
    name = f"{value.name}_to_channels_first"
    out = insert_transpose(rewriter, first, "", value, to_first(size), name=name)
    out.shape = was
    for reader in readers:
        for slot, given in enumerate(reader.inputs):
            if given is value:
                reader.replace_input_with(slot, out)
    value.shape = permuted(was, to_last(size))
    value.metadata_props[traits.LAYOUT] = "channels_last"


def _finish(graph: ir.Graph) -> None:
    """Nodes in an order that can run, and names that are unique."""
    graph.sort()
    taken = {*graph.initializers, *(v.name or "" for v in (*graph.inputs, *graph.outputs))}
    nodes: set[str] = set()
    for node in graph:
        if is_transpose(node) and traits.CLASS not in node.metadata_props:
            traits.mark(node, traits.ANONYMOUS)
            if _is_at_interface(node):
                node.name = _name_at_interface(node)
        node.name = unique(node.name or "", nodes)
        for value in node.outputs:
            if value.name and not value.is_graph_output():
                value.name = unique(value.name.removesuffix("_permuted"), taken)
    _share(graph)


def _share(graph: ir.Graph) -> None:
    """Let the readers in a block that turn a value alike read one Transpose."""
    first: dict[tuple[ir.Value | None, tuple[int, ...], str], ir.Node] = {}
    for node in list(graph):
        if not is_transpose(node) or node.outputs[0].is_graph_output():
            continue
        same = first.setdefault((node.inputs[0], tuple(perm_of(Match(node))), traits.scope(node)), node)
        if same is not node:
            node.outputs[0].replace_all_uses_with(same.outputs[0])
            graph.remove(node, safe=True)


def _is_at_interface(node: ir.Node) -> bool:
    """Whether a transpose is of an input or an output: it then belongs to the model, not to the block beside it."""
    x, y = node.inputs[0], node.outputs[0]
    return x is not None and (x.is_graph_input() or (y.is_graph_output() and not y.uses()))


def _name_at_interface(node: ir.Node) -> str:
    """Name a transpose of an input or an output after that: it belongs to no block."""
    x = node.inputs[0]
    if x is None or not x.is_graph_input():
        return (node.name or "").rpartition(".")[2]
    perm = perm_of(Match(node))
    name = f"{x.name}_{'channels_last' if perm == to_last(len(perm)) else 'transposed'}".replace(".", "_")
    if not node.outputs[0].is_graph_output():
        node.outputs[0].name = name
    return name


def _remove_dead(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(is_read(o) for o in node.outputs):
            graph.remove(node, safe=True)


__all__ = ["DOMAIN", "SPATIAL_OPS", "channels_last", "permuted", "simplify", "to_first", "to_last", "to_standard"]
