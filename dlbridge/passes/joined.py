"""Reads of one part of what was joined: ``stack([key, value])[0]`` is ``key``."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match, match, producer, rank
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.sizes import Size, shape_of


def take_part(node: ir.Node, known: Integers, rewriter: Rewriter) -> bool:
    """Let what reads a node that takes one operand out of a Concat read that operand.

    Args:
        node: The node.
        known: What the small integer tensors of the graph hold.
        rewriter: That of its graph.

    Returns:
        Whether it is such a node.
    """
    found = match(node, "Gather", "Slice")
    joined = None if found is None else producer(found.input(0), "Concat")
    if found is None or joined is None:
        return False
    part = _of_stack(found, joined, known) if found.is_op("Gather") else _of_concat(found, joined, known)
    site = Site(node, rewriter)
    if part is None:
        return found.is_op("Slice") and _take_pieces(site, found, joined, known)
    for name in list(node.attributes):
        site.take(name)
    site.set_op("Identity")
    site.set_inputs(part)
    rewriter.bypass(node)
    return True


def _of_stack(gather: Match, joined: Match, known: Integers) -> ir.Value | None:
    """What a Gather takes out of a stack: a Concat of tensors with a new axis each, along that axis."""
    axis, index = _axis(joined), known.numbers(gather.input(1))
    if axis is None or index is None or rank(gather.input(1)) != 0 or gather.integer("axis") % _rank(joined) != axis:
        return None
    parts = [producer(operand, "Unsqueeze") for operand in joined.operands]
    if any(part is None or known.numbers(part.input(1)) not in ([axis], [axis - _rank(joined)]) for part in parts):
        return None
    part = parts[index[0] % len(parts)]
    return None if part is None else part.operand(0)


def _of_concat(cut: Match, joined: Match, known: Integers) -> ir.Value | None:
    """The operand that a Slice along the axis of a Concat takes, all of it and nothing else."""
    axis, bounds = _axis(joined), [known.get(cut.input(slot)) for slot in (1, 2)]
    axes, steps = known.numbers(cut.input(3)), known.numbers(cut.input(4))
    if axis is None or axes is None or len(axes) != 1 or axes[0] % _rank(joined) != axis or steps not in (None, [1]):
        return None
    if cut.input(4) is not None and steps is None:
        return None
    start, end = (None if entries is None else entries.reshape(-1)[0] for entries in bounds)
    before = Size.of(0)
    for operand in joined.operands:
        sizes = shape_of(operand)
        size = None if sizes is None else sizes[axis]
        if size is None:
            return None
        after = before + size
        if (start, end) == (before, after):
            return operand
        before = after
    return None


def _take_pieces(site: Site, cut: Match, joined: Match, known: Integers) -> bool:
    """Let a Slice cut the one operand that it takes something of; let a Concat that alone reads it have the operands.

    What writes a tensor piece by piece (``out[:, t] = y``) is read so: before the piece, the piece, behind the piece.
    """
    axis, pieces = _axis(joined), _pieces(cut, joined, known)
    if not pieces or axis is None:
        return False
    if len(pieces) == 1:
        operand, start, end, _ = pieces[0]
        bounds = (site.constant(what, [number]) for what, number in (("start", start), ("end", end), ("axis", axis)))
        site.set_inputs(operand, *bounds)
        return True
    readers = site.output.consumers()
    outer = match(readers[0], "Concat") if len(readers) == 1 and not site.output.is_graph_output() else None
    is_whole = all((start, end) == (0, size) for _, start, end, size in pieces)
    if outer is None or not is_whole or _axis(outer) != axis or len(site.output.uses()) > 1:
        return False
    slot = outer.node.inputs.index(site.output)
    before, behind = outer.node.inputs[:slot], outer.node.inputs[slot + 1 :]
    Site(outer.node, site.rewriter).set_inputs(*before, *(operand for operand, *_ in pieces), *behind)
    return True


def _pieces(cut: Match, joined: Match, known: Integers) -> list[tuple[ir.Value, int, int, int]]:
    """(operand, start, end, size) of what a Slice along the axis of a Concat takes of each, where all are numbers."""
    axis, along, steps = _axis(joined), known.numbers(cut.input(3)), known.numbers(cut.input(4))
    bounds = [known.numbers(cut.input(slot)) for slot in (1, 2)]
    shapes = [operand.shape for operand in joined.operands]
    if axis is None or along is None or len(along) != 1 or along[0] % _rank(joined) != axis:
        return []
    if (cut.input(4) is not None and steps != [1]) or any(shape is None for shape in shapes):
        return []
    sizes = [shape[axis] for shape in shapes if shape is not None]
    if bounds[0] is None or bounds[1] is None or not all(isinstance(size, int) for size in sizes):
        return []
    first, last, _ = slice(bounds[0][0], bounds[1][0]).indices(sum(sizes))  # type: ignore[arg-type]
    found, before = [], 0
    for operand, size in zip(joined.operands, sizes, strict=True):
        assert isinstance(size, int)
        start, end = max(first - before, 0), min(last - before, size)
        if start < end:
            found.append((operand, start, end, size))
        before += size
    return found


def _rank(joined: Match) -> int:
    found = rank(joined.operand(0))
    assert found is not None  # asked for only where the axis is known
    return found


def _axis(joined: Match) -> int | None:
    """The axis of a Concat, counted from the front; None where the rank is not known."""
    found = rank(joined.operand(0))
    return None if found is None else joined.integer("axis") % found
