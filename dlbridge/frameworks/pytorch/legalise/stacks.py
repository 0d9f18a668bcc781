"""Recurrent layers that were one layer of several in PyTorch (``num_layers``) become one again.

ONNX has a node for each; one legalised node (``recurrent_layers``) stands for all of them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import onnx_ir as ir

from dlbridge.frameworks.pytorch.legalise.recurrent_layers import why_no_layer
from dlbridge.frameworks.pytorch.rules import FORM
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes.matching import Match, is_read, is_read_once, match, producer
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.unused import remove_unused
from dlbridge.source.op import bare
from dlbridge.source.recurrent import LENGTHS, STATE, STATES, joins


class _ApartError(Exception):
    """The layers cannot be one; the message says why."""


def join_stacks(graph: ir.Graph) -> bool:
    """Join every stack whose parts are connected as they are in PyTorch; in place.

    Returns:
        Whether there was one.
    """
    rewriter = Rewriter(graph)
    rewriter.rule = "join_stacks"
    stacks: dict[str, list[Match]] = defaultdict(list)
    for node in graph:
        found = match(node, *STATES) if traits.STACK in node.metadata_props else None
        if found is not None:
            stacks[found.name.rpartition(".")[0]].append(found)
    _join_states(rewriter, list(stacks.values()))
    for path, layers in stacks.items():
        if len(layers) > 1:
            kept = layers[0].node.metadata_props[traits.STACK]
            try:
                _join(rewriter, path if kept == "true" else kept, layers)
            except _ApartError as why:
                rewriter.no(layers[0], str(why))
    if rewriter.changed:
        remove_unused(graph)
    return rewriter.changed


def _join_states(rewriter: Rewriter, stacks: list[list[Match]]) -> None:
    """Join the final states of a stack, where the layers of another one start with one each, and cut them apart there:
    so PyTorch's layers of several hand them on."""
    for layers in stacks:
        for index in range(STATES[layers[0].key]):
            states = [each.input(STATE + index) for each in layers]
            made = [[tuple(layer.node.outputs[1 + index : 2 + index]) for layer in other] for other in stacks]
            if len(states) > 1 and [(state,) for state in states] in made:
                _hand_on(rewriter, layers, STATE + index, [state for state in states if state is not None])


def _hand_on(rewriter: Rewriter, layers: list[Match], slot: int, states: list[ir.Value]) -> None:
    rows, *sizes = states[0].shape or (None,)
    if not isinstance(rows, int):
        return
    joined = rewriter.insert(layers[0].node, "Concat", "states", states, {"axis": 0}).outputs[0]
    joined.type, joined.shape = states[0].type, ir.Shape([rows * len(states), *sizes])
    for place, (layer, state) in enumerate(zip(layers, states, strict=True)):
        bounds = [[place * rows], [(place + 1) * rows], [0]]
        given = [joined, *(rewriter.constant(f"{layer.name}.state_bounds", each) for each in bounds)]
        cut = rewriter.insert(layer.node, "Slice", "state", given).outputs[0]
        cut.type, cut.shape = state.type, state.shape
        layer.node.replace_input_with(slot, cut)


def _join(rewriter: Rewriter, path: str, layers: list[Match]) -> None:
    first, last, count = layers[0], layers[-1], STATES[layers[0].key]
    _check_alike(layers)
    dropout = _dropout(layers)
    sequences = _sequences(last)
    states = [_initial([each.input(STATE + index) for each in layers]) for index in range(count)]
    if len({state is None for state in states}) > 1:
        raise _ApartError("one of two initial states is given, and PyTorch takes both or none")
    finals = [_finals([tuple(each.node.outputs[1 + i : 2 + i]) for each in layers]) for i in range(count)]
    weights = [each.input(slot) for each in layers for slot in (1, 2, 3)]
    given = [first.operand(0), first.input(LENGTHS), *states, *[None] * (2 - count), *weights]
    more = {"num_layers": len(layers), "dropout": dropout, "gives": "layer", "batch_first": 0}
    joined = ir.node(op_key(first.node), given, first.attributes() | more, domain=FORM, num_outputs=1 + count)
    joined.name = path
    kept = (traits.BIASES, traits.ROOT_LAYER)
    joined.metadata_props.update({k: v for k, v in first.node.metadata_props.items() if k in kept})
    first.graph.insert_after(last.node, joined)
    for old, new in zip([sequences, *finals], joined.outputs, strict=True):
        new.name = rewriter.value_name(path)
        rewriter.let_stand_for(new, old)


def _check_alike(layers: list[Match]) -> None:
    for each in layers:
        why = why_no_layer(bare(each.node))
        if why is not None:
            raise _ApartError(why)
        if each.input(LENGTHS) is not layers[0].input(LENGTHS):
            raise _ApartError("its layers have sequences of other lengths")
    biases = {each.node.metadata_props.get(traits.BIASES) for each in layers}
    if len(biases) > 1 or any(each.node.attributes != layers[0].node.attributes for each in layers):
        raise _ApartError("its layers differ")


def _sequences(layer: Match) -> list[ir.Value]:
    """What the graph makes of a sequence: the form (time, batch, directions * hidden)."""
    value, found = layer.output, []
    for node in value.consumers():
        turn = match(node, "Transpose", perm=[0, 2, 1, 3])
        after = [] if turn is None else list(turn.output.consumers())
        if match(node, "Squeeze") is not None:
            found.append(node.outputs[0])
        elif turn is not None and not turn.output.is_graph_output() and all(joins(each) for each in after):
            found += [each.outputs[0] for each in after]
        else:
            raise _ApartError("its sequence is read as ONNX has it")
    if value.is_graph_output():
        raise _ApartError("its sequence is returned as ONNX has it")
    return found


def _dropout(layers: list[Match]) -> float:
    """The ratio of the dropout between two layers, which is the same between all; 0 where there is none."""
    ratios = {_ratio(layer, after) for layer, after in itertools.pairwise(layers)}
    if len(ratios) > 1:
        raise _ApartError("the dropout between its layers differs")
    return ratios.pop()


def _ratio(layer: Match, after: Match) -> float:
    """The ratio of the dropout between two layers, 0 where there is none."""
    found = _sequences(layer)
    value = found[0] if len(found) == 1 else None
    if value is not None and after.input(0) is value and is_read_once(value):
        return 0.0
    dropout = producer(after.input(0), "Dropout")
    if value is None or dropout is None or dropout.input(0) is not value:
        raise _ApartError("more than dropout is between its layers")
    if not (is_read_once(value) and is_read_once(dropout.output)):
        raise _ApartError("more than dropout is between its layers")
    ratio = dropout.constant_scalar(1)
    return 0.5 if ratio is None else ratio


def _initial(parts: list[ir.Value | None]) -> ir.Value | None:
    """The tensor that the layers' initial states are cut from, in order; None where none are given."""
    if all(part is None for part in parts):
        return None
    source, place = None, 0
    for part in parts:
        cut = producer(part, "Slice")
        bounds = None if cut is None else [cut.constant_ints(slot) for slot in (1, 2, 3)]
        rows = None if part is None or part.shape is None else part.shape[0]
        if cut is None or not isinstance(rows, int) or bounds != [[place], [place + rows], [0]]:
            raise _ApartError("its initial states are not cut from one tensor")
        source = source or cut.operand(0)
        if cut.operand(0) is not source:
            raise _ApartError("its initial states are not cut from one tensor")
        place += rows
    if source is None or source.shape is None or source.shape[0] != place:
        raise _ApartError("its initial states are a part of a tensor")
    return source


def _finals(parts: list[tuple[ir.Value, ...]]) -> list[ir.Value]:
    """The outputs of the Concats that join the layers' final states; none where nothing reads them."""
    values = [value for part in parts for value in part]
    readers = {node for value in values for node in value.consumers()}
    if not any(is_read(value) for value in values):
        return []
    concats = [match(node, "Concat", axis=0) for node in values[0].consumers()]
    joined = [each.output for each in concats if each is not None and list(each.node.inputs) == values]
    if len(joined) < len(readers) or any(value.is_graph_output() for value in values):
        raise _ApartError("its final states are read one by one")
    return joined
