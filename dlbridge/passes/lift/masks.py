"""Attention masks that are computed index by index are replaced by what they mean: causal, a window, padding.

What a mask says is found by ``dlbridge.passes.predicates``; where that is ``k <= q`` (and perhaps more than ``q - w``,
and an element of a padding mask), the arithmetic is replaced by ``is_causal`` of the Attention, by one ``CausalMask``,
or by the padding mask with axes put in. One that is true everywhere is left out. Any other mask stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes.lift.pattern import Lifter
from dlbridge.passes.matching import Match, match
from dlbridge.passes.predicates import (
    Affine,
    All,
    AtLeastZero,
    IsTrue,
    Predicate,
    Predicates,
    Read,
    index,
)
from dlbridge.passes.rewriter import Site
from dlbridge.passes.sizes import Size, shape_of

#: Slot of the mask of an Attention.
_MASK = 3
#: Ops that make indices: without one of them there is no such mask.
_SOURCES = frozenset({"Range", "CumSum", "Trilu"})
#: Ops of booleans that the analysis follows: a mask is what is read by something else.
_FOLLOWED = frozenset({"And", "Or", "Not", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Transpose"})
#: Axes of a mask, from the last: keys, queries, heads, batch.
_KEYS, _QUERIES, _BATCH = 0, 1, 3
_ONE = Size.of(1)


@dataclass
class _Mask:
    """What a mask says.

    Attributes:
        ahead: How many keys after its own index a query sees; None where it sees all.
        behind: How many before it; None where it sees all.
        padding: The element of a tensor (batch, keys) that has to be true.
    """

    ahead: Size | None = None
    behind: Size | None = None
    padding: Read | IsTrue | None = None


def lift_masks(graph: ir.Graph, to: Lifter) -> None:
    """Replace the masks of a graph that are recognised."""
    nodes = list(graph)
    if not any(op_key(node) in _SOURCES for node in nodes):
        return
    known = Predicates()
    for node in nodes:
        known.visit(node)
    for node in nodes:
        value = node.outputs[0] if len(node.outputs) == 1 else None
        if value is None or value.dtype != ir.DataType.BOOL or not _is_read_as_mask(value):
            continue
        term = known.predicate(value)
        if term is not None:
            to.rule = "lift_masks"
            _replace(Site(node, to), term, to, graph)


def _is_read_as_mask(value: ir.Value) -> bool:
    """Whether something other than the arithmetic of a mask reads it."""
    return value.is_graph_output() or any(op_key(use.node) not in _FOLLOWED for use in value.uses())


def _replace(site: Site, term: Predicate, to: Lifter, graph: ir.Graph) -> None:
    sizes = shape_of(site.output)
    if sizes is None or len(sizes) != 4 or None in sizes:
        return
    batch, heads, queries, keys = (size for size in sizes if size is not None)
    mask = _recognised(term)
    if mask == _Mask():
        _leave_out(site, to)
        return
    by_attention = _only_attention_reads(site.output)  # which broadcasts a mask to its batch
    if mask is None or heads != _ONE or (mask.padding is None and batch != _ONE and not by_attention):
        return
    if mask.padding is not None and not _is_of(mask.padding, batch, keys):
        return
    if mask.ahead is None:
        if mask.padding is not None and mask.behind is None and _all_broadcast(site.output, queries):
            _put_padding(site, mask.padding)
        return
    if mask.ahead != keys - queries:
        to.no(site, "the last query is not at the last key")
        return
    window = None if mask.behind is None else (mask.behind + keys - queries + _ONE).number
    if mask.behind is not None and (window is None or window < 1):
        to.no(site, "the window is no number")
        return
    if mask.padding is None and queries != keys:
        to.no(site, "there are more keys than queries, and nothing that has their number")
        return
    if mask.padding is None and window is None and by_attention:
        _set_causal(site, to)
        return
    _put_causal_mask(site, mask, window, queries, graph)


def _recognised(term: Predicate) -> _Mask | None:
    """The meaning of a predicate; None unless it consists of bounds on the keys and padding alone."""
    mask = _Mask()
    for part in term.parts if isinstance(term, All) else {term}:
        if isinstance(part, AtLeastZero) and _is_never_negative(part.of):
            continue
        if isinstance(part, (Read, IsTrue)) and mask.padding is None:
            mask.padding = part
        elif isinstance(part, AtLeastZero) and part.of.slopes == ((_KEYS, -1), (_QUERIES, 1)) and mask.ahead is None:
            mask.ahead = part.of.offset
        elif isinstance(part, AtLeastZero) and part.of.slopes == ((_KEYS, 1), (_QUERIES, -1)) and mask.behind is None:
            mask.behind = part.of.offset
        else:
            return None
    return mask


def _is_never_negative(number: Affine) -> bool:
    """Whether a sum of indices, none of them subtracted, and a number is zero at least."""
    offset = number.offset.number
    return offset is not None and offset >= 0 and all(slope > 0 for _, slope in number.slopes)


def _is_of(padding: Read | IsTrue, batch: Size, keys: Size) -> bool:
    """Whether it is the element ``[batch, key]`` of a tensor of these sizes."""
    read = padding.of if isinstance(padding, IsTrue) else padding
    place = (_at(_BATCH, batch), _at(_KEYS, keys))
    return shape_of(read.value) == [batch, keys] and read.at == place


def _at(axis: int, size: Size) -> Affine:
    return index(axis) if size != _ONE else Affine((), Size.of(0))


def _only_attention_reads(value: ir.Value) -> bool:
    """Whether only Attention nodes read a mask, without past keys and without a causal mask of their own."""
    return not value.is_graph_output() and all(_is_plain_mask(use.node, use.idx) for use in value.uses())


def _all_broadcast(value: ir.Value, queries: Size) -> bool:
    """Whether each reader of a mask would take one row for all queries: another of its inputs has the queries' axis."""
    return not value.is_graph_output() and all(
        _is_plain_mask(use.node, use.idx) or _chooses(use.node, use.idx, queries) for use in value.uses()
    )


def _chooses(node: ir.Node, slot: int, queries: Size) -> bool:
    choice = match(node, "Where")
    if choice is None or slot != 0:
        return False
    sizes = [shape_of(choice.operand(other)) or [] for other in (1, 2)]
    return any(len(each) > 1 and each[-2] == queries for each in sizes)


def _is_plain_mask(node: ir.Node, slot: int) -> bool:
    attention = match(node, "Attention")
    if attention is None or slot != _MASK or attention.integer("is_causal"):
        return False
    return all(attention.input(each) is None for each in range(_MASK + 1, len(node.inputs)))


# --- what stands in its place -----------------------------------------------------------------------------------------


def _leave_out(site: Site, to: Lifter) -> None:
    """Let what reads a mask that is true everywhere do without it, as far as its result has the same shape then."""
    for use in list(site.output.uses()):
        if _is_plain_mask(use.node, use.idx):
            attention = Site(use.node, to)
            attention.set_inputs(*[attention.input(slot) for slot in range(_MASK)])
            continue
        choice = match(use.node, "Where")
        if choice is None or use.idx != 0 or choice.output.is_graph_output():
            continue
        chosen = choice.operand(1)
        if shape_of(chosen) == shape_of(choice.output) or _only_attention_reads(choice.output):
            choice.output.replace_all_uses_with(chosen)
            to.erase(choice.node)


def _set_causal(site: Site, to: Lifter) -> None:
    """Make each Attention that reads the mask causal: it has as many queries as keys."""
    for use in list(site.output.uses()):
        attention = Site(use.node, to)
        attention.set_inputs(*[attention.input(slot) for slot in range(_MASK)])
        attention.set(is_causal=1)


def _put_padding(site: Site, padding: Read | IsTrue) -> None:
    axes = site.rewriter.constant("padding_axes", [1, 2], share=True)
    assert site.output.shape is not None
    batch, *_, keys = site.output.shape
    made = site.rewriter.replace(site.node, "Unsqueeze", [_truth(site, padding), axes])
    made.outputs[0].shape = ir.Shape([batch, 1, 1, keys])


def _put_causal_mask(site: Site, mask: _Mask, window: int | None, queries: Size, graph: ir.Graph) -> None:
    padding = None if mask.padding is None else _truth(site, mask.padding)
    sized = _with_axis(site.node, queries, graph, padding)
    if sized is None:
        return
    value, axis = sized
    inputs = [value] if padding is None else [value, padding]
    attributes = {"axis": axis, "window": window or 0}  # both, because evaluators know no defaults of functions
    node = site.rewriter.replace(site.node, "CausalMask", inputs, attributes, domain=extension.DOMAIN)
    made = node.outputs[0]
    made.shape = ir.Shape([1 if padding is None else made.shape[0], *made.shape[1:]])  # type: ignore[index]
    named_by_author = {traits.VARIABLE, traits.TOWARDS} & {*made.metadata_props, *node.metadata_props}
    if not named_by_author:
        made.metadata_props[traits.VARIABLE] = "window_mask" if window else "causal_mask"


def _truth(site: Site, padding: Read | IsTrue) -> ir.Value:
    """The padding mask as booleans."""
    if isinstance(padding, Read):
        return padding.value
    value = padding.of.value
    cast = site.op("Cast", "padding", [value], to=int(ir.DataType.BOOL))
    cast.type, cast.shape = ir.TensorType(ir.DataType.BOOL), value.shape
    return cast


def _with_axis(node: ir.Node, queries: Size, graph: ir.Graph, padding: ir.Value | None) -> tuple[ir.Value, int] | None:
    """A value that has an axis of this size, and the axis.

    It is one whose shape the mask was computed from, else an input of the graph, else the padding mask.
    """
    pending, seen = [node], {node}
    while pending:
        each = pending.pop(0)
        for value in each.inputs:
            maker = None if value is None else value.producer()
            if maker is None or maker in seen or maker.graph is not node.graph:
                continue
            if is_op(maker, "Shape"):
                sized = Match(maker).operand(0)
                axis = _axis_of(sized, queries)
                if axis is not None and sized is not padding:
                    return sized, axis
            seen.add(maker)
            pending.append(maker)
    others = [value for value in graph.inputs if not value.is_initializer()]
    for value in [*others, *([] if padding is None else [padding])]:
        axis = _axis_of(value, queries)
        if axis is not None:
            return value, axis
    return None


def _axis_of(value: ir.Value, size: Size) -> int | None:
    sizes = shape_of(value) or []
    return sizes.index(size) if size in sizes else None
