"""Legalise recurrent ops that are one of Keras' layers: they read the batch first, and give what the layer gives.

ONNX has the time first (or ``layout=1``), an axis of directions, and always gives all. A node of the domain
``dlbridge.keras`` reads a sequence as ``(batch, time, size)``, or with the time first if its ``time_first`` is 1; its
other inputs are those of ONNX. Its attribute ``gives`` says what its outputs are:

- ``layer``: the layer's own, a sequence ``(batch, time, directions * units)`` and states ``(batch, units)``. A layer of
  both directions that gives no sequence gives its last output, ``(batch, 2 * units)``.
  A mask (input 8) says which steps it walks along, as those of Keras do; with ``zero_masked`` its outputs at the
  others are 0.
- ``states``: the layer's own sequence, and states as ONNX has them.
- ``all``: what ONNX gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FORM, RECURRENT_ACTIVATIONS
from dlbridge.ops import traits
from dlbridge.passes.matching import Match, is_read, match, producer
from dlbridge.passes.node_by_node import legalise
from dlbridge.passes.rewriter import Site
from dlbridge.source.op import Op, bare
from dlbridge.source.recurrent import (
    LENGTHS,
    PEEPHOLES,
    STATES,
    USUAL,
    activations,
    becomes,
    directions,
    native_readers,
    readers,
)
from dlbridge.source.tree.code import single

#: The standard's activations, in small letters, as Keras calls them, with the numbers that make them the same.
_ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    kind.lower(): (name, *(single(n) for n in numbers)) for name, (kind, *numbers) in RECURRENT_ACTIVATIONS.items()
}
_SWAPPED = [1, 0, 2]
#: The input that is a mask, of a node that is a layer of Keras.
MASK = PEEPHOLES + 1


def recurrent_layers(graph: ir.Graph) -> bool:
    """Legalise the recurrent ops that are layers of Keras, in place; what follows a formula of ONNX stays.

    Returns:
        Whether there was one.
    """
    return legalise(graph, "recurrent_layers", STATES, _legalise).changed


def activation_names(op: Op) -> dict[str, str] | None:
    """The keywords for activations other than the layer's own; None when Keras has no such layer."""
    usual, count = USUAL[op.key], directions(op)
    given = activations(op) or [(name,) for name in usual * count]
    if any(_ACTIVATIONS.get(name, ("", -1))[1:] != tuple(numbers) for name, *numbers in given):
        return None
    names = [_ACTIVATIONS[name][0] for name, *_ in given]
    first, last = names[: len(usual)], names[-len(usual) :]
    if first != last or (op.key == "LSTM" and first[1] != first[2]):
        return None
    found = {"activation": first[-1]}
    if op.key != "RNN":
        found["recurrent_activation"] = first[0]
    plain = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    return {keyword: name for keyword, name in found.items() if name != plain[keyword]}


def _legalise(site: Site) -> bool:
    op = bare(site.node)
    names = activation_names(op)
    if names is None:
        return site.rewriter.no(site, "Keras has no layer with its activations")
    if op.has(PEEPHOLES) or op.attr("clip") is not None or op.attr("input_forget", 0):
        return site.rewriter.no(site, "Keras has no layer with peepholes, clip or input_forget")
    if not _has_weights_of_one_kind(op):
        return site.rewriter.no(site, "its weights are computed, or some train and others do not")
    results = _results(op)
    if not op.attr("layout"):
        _read_batch_first(site)
    _give(site, results)
    if results.gives == "layer":
        _take_mask(site)
    site.set_form(FORM, gives=results.gives, **names)
    return True


def _has_weights_of_one_kind(op: Op) -> bool:
    """Whether W, R and B are initializers that all train, or that all do not: so do the weights of a Keras layer."""
    given = [value for value in op.node.inputs[1:4] if value is not None]
    kinds = {traits.kind(value) for value in given if value.is_initializer()}
    return all(value.is_initializer() for value in given) and kinds in ({"parameter"}, {"frozen"})


# --- what the layer gives ---------------------------------------------------------------------------------------------


@dataclass
class _Results:
    """What a legalised node gives.

    Attributes:
        gives: See above.
        ends: Output of the node -> the values that the graph makes of it, and that it gives itself from now on.
    """

    gives: str
    ends: dict[int, list[ir.Value]] = field(default_factory=dict)


def _results(op: Op) -> _Results:
    """The layer's own results where the graph makes just these of what the node gives; else those of ONNX."""
    read = [index for index in range(len(op.node.outputs)) if op.used(index)]
    ends = {index: _ends(op, index) for index in read}
    own = {index: values for index, values in ends.items() if values is not None}
    is_backwards = op.attr("direction") == "reverse"
    if 0 in read and (0 not in own or (is_backwards and read != [0])):
        return _Results("all")  # a sequence that runs backwards is turned where it alone is unpacked
    if len(own) == len(read) and (directions(op) == 1 or read in ([0], [1])):
        return _Results("layer", own)
    return _Results("states", {0: own[0]} if 0 in read else {})


def _ends(op: Op, index: int) -> list[ir.Value] | None:
    """What the graph makes of an output that a layer gives by itself; None where something else reads it."""
    if index > 0:
        return _ends_of_states(op, index)
    nodes = native_readers(op, bool(op.attr("layout")))
    return None if nodes is None else [node.outputs[0] for node in nodes if match(node, "Transpose") is None]


def _ends_of_states(op: Op, index: int) -> list[ir.Value] | None:
    axis, nodes = 1 if op.attr("layout") else 0, readers(op.output(index))
    if directions(op) == 2:
        concatenated = _concatenated(nodes, axis)
        if index == 2 or concatenated is not None:
            return concatenated if index == 1 else None
    ends: list[ir.Value] = []
    for node in nodes:
        found = None if node is None else _without_directions(node, axis, directions(op))
        if found is None:
            return None
        ends += found
    return ends


def _without_directions(node: ir.Node, axis: int, count: int) -> list[ir.Value] | None:
    """What a node makes of states, if that is ``(batch, directions * units)``; ``axis`` is that of the directions."""
    squeeze = match(node, "Squeeze")
    drops = squeeze is not None and squeeze.constant_ints(1) == [axis]
    if count == 1 and (drops or _direction(node, axis) is not None):
        return [node.outputs[0]]
    if axis == 1:
        return [node.outputs[0]] if _flattens(node) else None
    turn = match(node, "Transpose", perm=_SWAPPED)
    after = [] if turn is None else readers(turn.output)
    flat = [reader.outputs[0] for reader in after if reader is not None and _flattens(reader)]
    return flat if flat and len(flat) == len(after) else None


def _concatenated(nodes: list[ir.Node | None], axis: int) -> list[ir.Value] | None:
    """The Concat of what two nodes take, the one the first direction, the other the second."""
    if None in nodes or [_direction(node, axis) for node in nodes if node is not None] != [0, 1]:
        return None
    taken = [node.outputs[0] for node in nodes if node is not None]
    joins = [readers(value) for value in taken]
    concat = match(joins[0][0], "Concat") if joins[0] else None
    if concat is None or concat.integer("axis") not in (1, -1):
        return None
    is_all = list(concat.node.inputs) == taken and joins == [[concat.node], [concat.node]]
    return [concat.output] if is_all else None


def _direction(node: ir.Node, axis: int) -> int | None:
    """Which direction a node takes of the states, counted from the front; None when it does not take one."""
    gather = match(node, "Gather", axis=axis)
    index = None if gather is None else gather.input(1)
    if gather is None or index is None or index.const_value is None or index.const_value.numpy().ndim != 0:
        return None
    count = gather.static_size(0, axis)
    return None if count is None else int(index.const_value.numpy()) % count


def _flattens(node: ir.Node) -> bool:
    """Whether a node reshapes ``(batch, directions, units)`` to ``(batch, directions * units)``."""
    if match(node, "Flatten") is not None:
        return match(node, "Flatten", axis=1) is not None
    reshape = match(node, "Reshape")
    target = None if reshape is None else reshape.constant_ints(1)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if target is None or shape is None or len(shape) != 3:
        return False
    known = [size for size in shape[1:] if isinstance(size, int)]
    return len(known) == 2 and becomes(target, [shape[0], known[0] * known[1]])


# --- the graph around it ----------------------------------------------------------------------------------------------


def _read_batch_first(site: Site) -> None:
    """Read what has the batch first, if a Transpose has turned it; else the layer's code turns it."""
    turn = producer(site.operand(0), "Transpose", perm=_SWAPPED)
    if turn is None:
        site.set(time_first=1)
        return
    site.set_input(0, turn.operand(0))
    site.rewriter.erase_unused([turn.node])


def _give(site: Site, results: _Results) -> None:
    """Let the node's outputs be read in place of what the graph makes of them."""
    for index, ends in results.ends.items():
        if index == 0 and not site.get("layout"):
            _give_batch_first(site, ends)
        else:
            site.rewriter.let_stand_for(site.node.outputs[index], ends)


def _give_batch_first(site: Site, ends: list[ir.Value]) -> None:
    """Give a sequence with the batch first, through a Transpose to what reads it with the time first."""
    rewriter, shape = site.rewriter, _swapped(ends[0].shape)
    turns = [turn for end in ends for node in readers(end) if (turn := match(node, "Transpose", perm=_SWAPPED))]
    rewriter.let_stand_for(site.output, [turn.output for turn in turns])
    rewriter.erase_unused([turn.node for turn in turns])
    if any(is_read(end) for end in ends):
        turned = rewriter.insert(site.node, "Transpose", "time_first", [site.output], {"perm": _SWAPPED}, after=True)
        rewriter.let_stand_for(turned.outputs[0], ends)
    site.output.shape = shape


def _swapped(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape([shape[1], shape[0], *shape[2:]])


# --- masks ------------------------------------------------------------------------------------------------------------


def _take_mask(site: Site) -> None:
    """Let the layer skip the steps that a mask leaves out, where the graph moves these away and the outputs back."""
    compact = producer(site.operand(0), "CompactSteps")
    spread = [] if compact is None else _spread(site, compact.operand(1))
    if compact is None or not spread:
        return
    mask, ends = compact.operand(1), [each.output for each in spread]
    after = [node for end in ends for node in readers(end)]
    made = [node for node in after if node is not None]
    site.set_input(0, compact.operand(0))
    site.set_input(MASK, mask)
    if all(map(_takes_last, after)):  # without its sequence, a layer gives its last output
        site.rewriter.let_stand_for(site.node.outputs[1], [node.outputs[0] for node in made])
    elif all(_zeroes(node, mask) for node in after):
        site.set(zero_masked=1)
        site.rewriter.let_stand_for(site.output, [node.outputs[0] for node in made])
    else:
        site.rewriter.let_stand_for(site.output, ends)
    site.rewriter.erase_unused([*made, *(each.node for each in spread), compact.node])


def _spread(site: Site, mask: ir.Value) -> list[Match]:
    """The nodes that move a layer's outputs back by a mask; none where something else reads what the layer gives."""
    if directions(bare(site.node)) == 2 or site.get("direction", "forward") != "forward":
        return []
    if site.input(LENGTHS) is not None or site.is_read(1):
        return []
    nodes = [node for node in readers(site.output) if node is None or any(map(is_read, node.outputs))]
    found = [each for node in nodes if (each := match(node, "SpreadSteps")) is not None]
    return found if len(found) == len(nodes) and all(each.operand(1) is mask for each in found) else []


def _takes_last(node: ir.Node | None) -> bool:
    gather = match(node, "Gather", axis=1)
    return gather is not None and gather.constant_scalar(1) == -1 and gather.rank(1) == 0


def _zeroes(node: ir.Node | None, mask: ir.Value) -> bool:
    """Whether a node makes 0 of the steps that a mask leaves out."""
    where = match(node, "Where")
    wide = None if where is None else producer(where.operand(0), "Unsqueeze")
    is_mask = wide is not None and wide.operand(0) is mask and wide.constant_ints(1) == [2]
    return is_mask and where is not None and where.constant_scalar(2) == 0
