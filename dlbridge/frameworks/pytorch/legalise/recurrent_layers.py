"""Legalise recurrent ops that are ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``.

A node of the domain ``dlbridge.pytorch`` is such a layer, of one or more layers (``stacks``). Its inputs are the
sequence, the lengths, the initial states (h, and c of an LSTM), then W, R and B of each layer, as ONNX has them. Of its
attributes, ``num_layers``, ``dropout`` and ``batch_first`` are PyTorch's; ``gives`` says what its outputs are:

- ``layer``: the layer's own, a sequence ``(time, batch, directions * hidden)``, or with the batch first, and states.
- ``all``: what ONNX gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import FORM
from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.passes.matching import Match, match, producer
from dlbridge.passes.node_by_node import legalise
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.source.op import Op, bare
from dlbridge.source.recurrent import (
    LENGTHS,
    PEEPHOLES,
    STATE,
    STATES,
    USUAL,
    directions,
    native_readers,
)

#: The first of the inputs that are weights: before it are X, the lengths, h and c.
WEIGHTS = 4
_SWAPPED = [1, 0, 2]


def recurrent_layers(graph: ir.Graph) -> bool:
    """Legalise the recurrent ops that are layers of PyTorch, in place; what follows a formula of ONNX stays.

    Returns:
        Whether there was one.
    """
    rewriter = legalise(graph, "recurrent_layers", STATES, _legalise)
    _turn(rewriter)
    return rewriter.changed


def nonlinearity(op: Op) -> str | None:
    """PyTorch's name for the activations; None when it has no such layer."""
    usual, count = USUAL[op.key], directions(op)
    given = [name.lower() for name in op.attr("activations") or ()][: len(usual) * count]
    if not given or given == usual * count:
        return "tanh"
    return "relu" if op.key == "RNN" and given == ["relu"] * count else None


def _legalise(site: Site) -> bool:
    op = bare(site.node)
    why = why_no_layer(op)
    if why is not None:
        return site.rewriter.no(site, why)
    ends = _ends(op)
    site.set_form(FORM, gives="all" if ends is None else "layer", batch_first=int(bool(op.attr("layout"))))
    site.rewriter.let_stand_for(site.output, ends or [])
    states = [site.input(slot) for slot in (STATE, STATE + 1)]
    site.set_inputs(site.input(0), site.input(LENGTHS), *states, *(site.input(slot) for slot in (1, 2, 3)))
    return True


def why_no_layer(op: Op) -> str | None:
    """Why an op of the standard is none of PyTorch's layers; None where it is one."""
    if nonlinearity(op) is None:
        return "PyTorch has no layer with its activations"
    if op.has(PEEPHOLES) or op.attr("clip") is not None or op.attr("input_forget", 0):
        return "PyTorch has no layer with peepholes, clip or input_forget"
    if op.key == "GRU" and op.attr("linear_before_reset") != 1:
        return "PyTorch's GRU resets after the linear map"
    if op.has(LENGTHS) and op.attr("direction") == "reverse":
        return "PyTorch packs no sequences that run backwards"
    if traits.FREE_WEIGHTS in op.node.metadata_props or not _has_weights(op):
        return "its weights are computed, or no parameters, or read by their names"
    return None


def _has_weights(op: Op) -> bool:
    """Whether W, R and B are parameters of the model."""
    given = [value for value in op.node.inputs[1:4] if value is not None]
    return all(map(traits.is_parameter, given))


def _ends(op: Op) -> list[ir.Value] | None:
    """What the graph makes of the sequence, if the layer gives just that; None where the node gives what ONNX does."""
    is_first = bool(op.attr("layout"))
    if is_first and (op.used(1) or op.used(2)):
        return None
    if not op.used(0):
        return []
    nodes = None if op.attr("direction") == "reverse" else native_readers(op, is_first)
    return None if nodes is None else [node.outputs[0] for node in nodes if match(node, "Transpose") is None]


# --- the batch first --------------------------------------------------------------------------------------------------


def _turn(rewriter: Rewriter) -> None:
    """Let layers take and give the batch first where the graph turns what they read, and turns back what they give.

    Layers that hand a sequence to each other are turned together. A layer that is called several times has one layout,
    so all of its calls are turned, or none.
    """
    nodes = [node for node in rewriter.graph if node.domain == FORM and layer_key(node) in STATES]
    sequences = {node.outputs[0]: node for node in nodes}
    for group in _groups(nodes, sequences):
        starts = list(dict.fromkeys(start for node in group if (start := _start(node.inputs[0])) not in sequences))
        before = {start.producer() for start in starts}
        behind = {taker for node in group for taker in _takers(node.outputs[0])} - set(nodes)
        dropped = [taker for start in starts for taker in _dropped(start)]
        is_whole = all(_has_one_way(Match(node)) for node in group) and set(dropped) <= set(group)
        if is_whole and all(map(_swaps, before | behind)) and not before & behind:
            _take_in_turns(rewriter, group, starts)


def _groups(nodes: list[ir.Node], sequences: Mapping[ir.Value, ir.Node]) -> list[list[ir.Node]]:
    """The layers that are turned together, in the order of the graph."""
    of: dict[ir.Node, list[ir.Node]] = {}
    first: dict[ir.Value | None, ir.Node] = {}
    for node in nodes:
        of[node] = [node]
        before = sequences.get(_start(node.inputs[0]))
        others = [first.setdefault(node.inputs[WEIGHTS], node), *([] if before is None else [before])]
        for other in others:
            if of[other] is not of[node]:
                of[other] += of[node]
                of.update(dict.fromkeys(of[node], of[other]))
    return list({id(group): group for group in of.values()}.values())


def _start(value: ir.Value | None) -> ir.Value:
    """A sequence before dropout, which does the same in either order."""
    assert value is not None
    node = value.producer()
    return _start(node.inputs[0]) if node is not None and _drops(node) else value


def _takers(value: ir.Value) -> list[ir.Node | None]:
    """The nodes that take a sequence, behind dropout, too; None stands for the graph that returns it."""
    found: list[ir.Node | None] = []
    for node, slot in value.uses():
        found += _takers(node.outputs[0]) if _drops(node) else [node if slot == 0 else None]
    return [*found, *([None] if value.is_graph_output() else [])]


def _dropped(value: ir.Value) -> list[ir.Node | None]:
    """The nodes that take what dropout makes of a sequence."""
    return [taker for node, _ in value.uses() if _drops(node) for taker in _takers(node.outputs[0])]


def _drops(node: ir.Node) -> bool:
    return match(node, "Dropout") is not None


def _has_one_way(layer: Match) -> bool:
    """Whether a layer gives its own results, with the time first so far."""
    return layer.get("gives") == "layer" and not layer.get("batch_first") and layer.get("direction") != "reverse"


def _swaps(node: ir.Node | None) -> bool:
    return match(node, "Transpose", perm=_SWAPPED) is not None


def _take_in_turns(rewriter: Rewriter, group: list[ir.Node], starts: list[ir.Value]) -> None:
    """Let layers have the batch first, and what dropout makes of the sequences at which they start."""
    for node in group:
        Site(node, rewriter).set(batch_first=1)
    for start in starts:
        turn = producer(start, "Transpose")
        assert turn is not None
        for node in [node for node, slot in start.uses() if slot == 0 and (node in group or _drops(node))]:
            Site(node, rewriter).set_input(0, turn.operand(0))
            if _drops(node):
                _give_batch_first(rewriter, node.outputs[0])
        rewriter.erase_unused([turn.node])
    for node in group:
        _give_batch_first(rewriter, node.outputs[0])


def _give_batch_first(rewriter: Rewriter, value: ir.Value) -> None:
    """Let a sequence with the time first have the batch first, and what dropout makes of it."""
    shape = value.shape
    if shape is not None:
        value.shape = ir.Shape([shape[1], shape[0], *shape[2:]])
    takers = [node for node, _ in value.uses()]
    back = [Match(node) for node in takers if _swaps(node)]
    for node in takers:
        if _drops(node):
            _give_batch_first(rewriter, node.outputs[0])
    rewriter.let_stand_for(value, [each.output for each in back])
    rewriter.erase_unused([each.node for each in back])
