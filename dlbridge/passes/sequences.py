"""Removes sequences (lists of tensors) that a graph makes only to take single tensors out of them.

torch's older exporter writes ``split``, ``chunk`` and ``unbind`` so. What a sequence holds is followed from node to
node: a list of values, or the slices of a tensor along an axis, whose number need not be known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.passes.matching import static_size, subgraphs
from dlbridge.passes.rewriter import Rewriter, Site

#: The ops on sequences that are resolved here.
OPS = frozenset(
    {"SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength"}
    | {"SplitToSequence", "ConcatFromSequence"}
)


@dataclass(frozen=True)
class Items:
    """The elements of a sequence, one by one."""

    values: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Slices:
    """The slices of a tensor along an axis, each of ``size`` indices (the last may be smaller).

    ``kept`` says whether a slice keeps the axis; one that does not has one index.
    """

    tensor: ir.Value
    axis: int
    size: int = 1
    kept: bool = True


Sequence = Items | Slices
Rule = Callable[[Site, dict[ir.Value, Sequence]], Sequence | None]


def resolve(graph: ir.Graph) -> bool:
    """Replace the nodes on sequences by nodes on tensors, in place; shapes should have been inferred.

    Returns:
        Whether there were any.

    Raises:
        UnsupportedOpError: When a sequence is more than plumbing: made in a loop, of an unknown number of tensors, or
            an output of the model. All such places are named.
    """
    rewriter = Rewriter(graph)
    known: dict[ir.Value, Sequence] = {}
    troubles: list[str] = []
    _resolve(graph, rewriter, known, troubles)
    if troubles:
        lines = "\n".join(f"  {trouble}" for trouble in troubles)
        raise UnsupportedOpError(
            f"sequences that cannot be taken apart before the model runs:\n{lines}",
            hint="let the model hand on tensors: torch.stack or torch.cat in the place of a list that grows in a loop",
        )
    return rewriter.changed


def _resolve(graph: ir.Graph, rewriter: Rewriter, known: dict[ir.Value, Sequence], troubles: list[str]) -> None:
    done = []
    for node in list(graph):
        for attribute in node.attributes.values():
            for body in subgraphs(attribute):
                _resolve(body, rewriter, known, troubles)
        if _resolve_node(Site(node, rewriter), known, troubles):
            done.append(node)
    rewriter.erase_unused(list(reversed(done)))  # what reads a sequence goes before what makes it


def _resolve_node(site: Site, known: dict[ir.Value, Sequence], troubles: list[str]) -> bool:
    """Follow the sequence that a node makes, or replace the tensor that it takes from one; whether it can then go."""
    node = site.node
    rule = _RULES.get(site.key)
    holds = any(v in known for v in site.operands)
    if rule is None or (site.is_op("Identity") and not holds):
        if holds:
            troubles.append(f"{node.name}: {node.op_type} of a sequence")
        elif any(isinstance(v.type, ir.SequenceType) for v in node.outputs):
            troubles.append(f"{node.name}: {node.op_type} gives a sequence")
        return False
    try:
        found = rule(site, known)
    except _UnknownError as error:
        troubles.append(f"{node.name}: {node.op_type}: {error}")
        return False
    if not isinstance(found, (Items, Slices)):
        return True
    known[site.output] = found
    if site.output.is_graph_output():
        troubles.append(f"{node.name}: a sequence as an output")
        return False
    return True


class _UnknownError(Exception):
    """What a sequence holds does not follow from the graph."""


def _sequence(site: Site, known: dict[ir.Value, Sequence], slot: int = 0) -> Sequence:
    value = site.input(slot)
    if value is None or value not in known:
        raise _UnknownError("what the sequence holds is not known")
    return known[value]


def _items(site: Site, sequence: Sequence) -> list[ir.Value]:
    """The elements one by one."""
    if isinstance(sequence, Items):
        return list(sequence.values)
    size = _static_size(sequence)
    if size is None:
        raise _UnknownError("the number of its elements is not known")
    count = -(-size // sequence.size)
    return [_at(site, sequence, index, f"item_{index}") for index in range(count)]


def _static_size(slices: Slices) -> int | None:
    return static_size(slices.tensor, slices.axis)


def _at(site: Site, slices: Slices, index: int, what: str) -> ir.Value:
    """One slice, by a position that is known."""
    size = _static_size(slices)
    if index < 0 and size is not None:
        index += -(-size // slices.size)
    if not slices.kept:
        return site.op("Gather", what, [slices.tensor, site.constant(f"{what}_index", index)], axis=slices.axis)
    if index < 0 and slices.size > 1:
        raise _UnknownError("an element from the end, of a number of elements that is not known")
    start, end = index * slices.size, (index + 1) * slices.size
    end = 2**63 - 1 if end == 0 else end
    bounds = [site.constant(f"{what}_{name}", [n]) for name, n in (("start", start), ("end", end))]
    return site.op("Slice", what, [slices.tensor, *bounds, site.constant(f"{what}_axis", [slices.axis])])


def _position(site: Site, slot: int) -> int | None:
    """A position that is a constant; None where the model computes it."""
    numbers = site.known(slot)
    return None if numbers is None else int(numbers.reshape(-1)[0])


def _place(site: Site, slot: int, default: int) -> int:
    if site.input(slot) is None:
        return default
    position = _position(site, slot)
    if position is None:
        raise _UnknownError("a position that the model computes")
    return position


# --- one op each ---------------------------------------------------------------------------------------------------


def _construct(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    return Items(tuple(v for v in site.node.inputs if v is not None))


def _empty(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    return Items(())


def _insert(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    items = _items(site, _sequence(site, known))
    position = _place(site, 2, len(items))
    if not -len(items) <= position <= len(items):
        raise _UnknownError(f"position {position} of {len(items)} elements")
    items.insert(position, site.operand(1))
    return Items(tuple(items))


def _erase(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    items = _items(site, _sequence(site, known))
    position = _place(site, 1, -1)
    if not -len(items) <= position < len(items):
        raise _UnknownError(f"position {position} of {len(items)} elements")
    del items[position]
    return Items(tuple(items))


def _split(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    x = site.operand(0)
    if x.shape is None:
        raise _UnknownError("the rank of its input is not known")
    axis = site.integer("axis") % len(x.shape)
    if site.input(1) is None:
        return Slices(x, axis, kept=bool(site.integer("keepdims")))
    sizes = site.known(1)
    if sizes is not None and sizes.ndim == 0:
        return Slices(x, axis, int(sizes))
    count = len(sizes) if sizes is not None else _count_of_parts(site)
    if count is None:
        raise _UnknownError("the number of parts is computed")
    parts = site.many("Split", "part", [x, site.input(1)], count, axis=axis)
    for index, value in enumerate(parts):
        if sizes is not None:
            value.type = x.type
            value.shape = ir.Shape([*x.shape[:axis], int(sizes[index]), *x.shape[axis + 1 :]])
    return Items(tuple(parts))


def _count_of_parts(site: Site) -> int | None:
    """The length of a vector of sizes that the model computes."""
    return static_size(site.input(1), 0) if site.rank(1) == 1 else None


def _element(site: Site, known: dict[ir.Value, Sequence]) -> None:
    sequence, position = _sequence(site, known), _position(site, 1)
    if isinstance(sequence, Items):
        site.replace_output(0, site.op("Identity", "element", [_item(site, sequence, position)]))
    elif position is not None:
        site.replace_output(0, _at(site, sequence, position, "element"))
    elif sequence.size > 1:
        site.replace_output(0, _chosen(site, sequence))
    else:
        index: Any = site.input(1)
        if sequence.kept:
            index = site.op("Unsqueeze", "indices", [index, site.constant("first", [0])])
        site.replace_output(0, site.op("Gather", "element", [sequence.tensor, index], axis=sequence.axis))


def _chosen(site: Site, slices: Slices) -> ir.Value:
    """One slice of several indices, by a position that the model computes; it may count from the end."""
    position = site.op("Mod", "position", [site.input(1), _count(site, slices)])
    size = site.constant("width", slices.size)
    start = site.op("Mul", "start", [position, size])
    first = site.constant("first", [0])
    bounds = [start, site.op("Add", "end", [start, size])]
    bounds = [site.op("Unsqueeze", f"bound_{i}", [b, first]) for i, b in enumerate(bounds)]
    return site.op("Slice", "element", [slices.tensor, *bounds, site.constant("along", [slices.axis])])


def _item(site: Site, sequence: Items, position: int | None) -> ir.Value:
    """One element. If its position is computed, all elements must have the same shape."""
    count = len(sequence.values)
    if position is not None:
        if not -count <= position < count:
            raise _UnknownError(f"position {position} of {count} elements")
        return sequence.values[position]
    stacked = _stack(site, sequence.values, 0)
    return site.op("Gather", "chosen", [stacked, site.input(1)], axis=0)


def _stack(site: Site, values: tuple[ir.Value, ...], axis: int) -> ir.Value:
    shapes = [v.shape for v in values]
    fixed = all(s is not None and all(isinstance(d, int) or d.value is not None for d in s) for s in shapes)
    if not values or not fixed or any(s != shapes[0] for s in shapes):
        raise _UnknownError("a position that the model computes, of elements whose shapes may differ")
    return _joined(site, values, axis, new_axis=True)


def _joined(site: Site, values: tuple[ir.Value, ...], axis: int, new_axis: bool) -> ir.Value:
    parts = list(values)
    if new_axis:
        at = site.constant("axis", [axis])
        parts = [site.op("Unsqueeze", f"part_{i}", [v, at]) for i, v in enumerate(parts)]
    return site.op("Concat", "joined", parts, axis=axis)


def _length(site: Site, known: dict[ir.Value, Sequence]) -> None:
    sequence = _sequence(site, known)
    if isinstance(sequence, Items):
        site.replace_output(0, site.constant("count", len(sequence.values)))
        return
    site.replace_output(0, _count(site, sequence))


def _count(site: Site, slices: Slices) -> ir.Value:
    sizes = site.op("Shape", "size", [slices.tensor], start=slices.axis, end=slices.axis + 1)
    count = site.op("Squeeze", "count", [sizes, site.constant("axis", [0])])
    if slices.size == 1:
        return count
    filled = site.op("Add", "filled", [count, site.constant("rest", slices.size - 1)])
    return site.op("Div", "parts", [filled, site.constant("each", slices.size)])


def _concat(site: Site, known: dict[ir.Value, Sequence]) -> None:
    sequence, axis, new_axis = _sequence(site, known), site.integer("axis"), bool(site.integer("new_axis"))
    if isinstance(sequence, Slices):
        assert sequence.tensor.shape is not None
        rank = len(sequence.tensor.shape)
        if sequence.kept and not new_axis and axis % rank == sequence.axis:
            site.replace_output(0, site.op("Identity", "whole", [sequence.tensor]))
            return
        if not sequence.kept and new_axis:
            order = [i for i in range(rank) if i != sequence.axis]
            order.insert(axis % rank, sequence.axis)
            site.replace_output(0, site.op("Transpose", "whole", [sequence.tensor], perm=order))
            return
    values = tuple(_items(site, sequence))
    if not values:
        raise _UnknownError("a sequence without elements")
    site.replace_output(0, _joined(site, values, axis, new_axis))


def _identity(site: Site, known: dict[ir.Value, Sequence]) -> Sequence:
    return _sequence(site, known)


_RULES: dict[str, Rule] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _element,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "Identity": _identity,
}
