"""Sizes that a graph states as numbers, where they stem from a size that is made free: they follow it.

A file of a fixed batch has ``Reshape`` to ``(1, 196, 12, 64)``. Where its input has ``batch`` along an axis now,
the 1 in that place of the target is the batch, since what a Reshape keeps in order must come out as many. Whether the
graph means the same for each row is tried afterwards, by :mod:`dlbridge.frameworks.onnx.freed`: what is put in here is
never believed without that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes
from dlbridge.passes.integers import Integers
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.sizes import Size, known_shape, product

#: Value -> its sizes in the file, where all of them are numbers.
OldShapes = Mapping[ir.Value, Sequence[int]]


def remember(model: ir.Model) -> OldShapes:
    """The sizes that the values of a graph have before an input gets other ones."""
    shapes.walk(model.graph, lambda node, known: [node], _opset(model))
    known: dict[ir.Value, list[int]] = {}
    for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
        sizes = [size for size in value.shape or () if isinstance(size, int)]
        if value.shape is not None and len(sizes) == len(value.shape):
            known[value] = sizes
    return known


def follow(model: ir.Model, old: OldShapes) -> bool:
    """Let the numbers of a graph follow the sizes of its inputs, which are others now; in place.

    Args:
        model: The graph with its inputs as they are now, and no shapes of other values.
        old: What :func:`remember` has found before.

    Returns:
        Whether any number was replaced.
    """
    rewriter = Rewriter(model.graph)

    def change(node: ir.Node, known: Integers) -> list[ir.Node]:
        rule = _RULES.get(op_key(node))
        if rule is not None:
            rule(Site(node, rewriter), _Sizes(known, old))
        return [node]

    shapes.walk(model.graph, change, _opset(model))
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    return rewriter.changed


def _opset(model: ir.Model) -> int:
    imports = model.graph.opset_imports
    return imports.get("", imports.get("ai.onnx", 1))


class _Sizes:
    """What is known of sizes at a node: as they are now, and as they are in the file."""

    def __init__(self, known: Integers, old: OldShapes) -> None:
        self.known, self._old = known, old

    def old(self, value: ir.Value | None) -> list[int] | None:
        if value is None:
            return None
        if value in self._old:
            return list(self._old[value])
        tensor = value.const_value
        return None if tensor is None else [int(size) for size in tensor.shape.numpy()]


_Rule = Callable[[Site, _Sizes], None]


# --- Reshape ----------------------------------------------------------------------------------------------------------


def _reshape(site: Site, sizes: _Sizes) -> None:
    given, before, after = known_shape(site.input(0)), sizes.old(site.input(0)), sizes.old(site.output)
    stated = sizes.known.numbers(site.input(1))
    if given is None or before is None or after is None or stated is None or 0 in before:
        return
    if all(size.number is not None for size in given) or len(stated) != len(after):
        return
    wanted = reshaped(before, given, after)
    if wanted is None or _says(stated, given, wanted):
        return
    target = _target(stated, given, wanted)
    if target is not None:
        site.take("allowzero")
        site.set_input(1, site.constant("sizes", target))


def _says(stated: Sequence[int], given: Sequence[Size], wanted: Sequence[Size]) -> bool:
    """Whether a target says already what is wanted."""
    kept = [given[axis] if size == 0 and axis < len(given) else Size.of(size) for axis, size in enumerate(stated)]
    known = [size for size in kept if size.number != -1]
    total, rest = product(given), product(known)
    left = total.over(rest) if total is not None and rest is not None and rest.terms else None
    return [left if size.number == -1 else size for size in kept] == list(wanted)


def _target(stated: Sequence[int], given: Sequence[Size], wanted: Sequence[Size]) -> list[int] | None:
    """The numbers to reshape by: 0 where the input's size stays, one -1; None where these do not suffice."""
    found = []
    for axis, size in enumerate(wanted):
        stays = axis < len(given) and given[axis] == size
        if size.number is not None:
            found.append(size.number)
        else:
            found.append(0 if stays else -1)
    if found.count(-1) > 1:
        return None
    return found


def reshaped(before: Sequence[int], given: Sequence[Size], after: Sequence[int]) -> list[Size] | None:
    """The sizes that a reshape gives when its input has others; None where it cannot be told.

    Axes that belong together (12, 64 and 768) are found from the sizes in the file; a size that is free now goes to
    the axis that had the same size, else to the first of those that it is split into.

    Args:
        before: The sizes of the input in the file.
        given: Its sizes now.
        after: The sizes of the output in the file.
    """
    result = [Size.of(size) for size in after]
    groups = _groups(before, after)
    for number, (inputs, outputs) in enumerate(groups):
        was, now = math.prod(before[i] for i in inputs), product(given[i] for i in inputs)
        if now is None or now.number == was:
            continue
        more = now.over(Size.of(was))
        behind = groups[number - 1][1] if number else []
        is_features = len(outputs) == 1 and outputs[0] == len(after) - 1
        if more is not None and behind and is_features and given[inputs[0]].number is None and len(inputs) > 1:
            result[behind[-1]] *= more  # the last axis, on which layers act, stays: rows join those before it
            continue
        place = _place(was, more, [after[o] for o in outputs], given, inputs)
        if place is None:
            return None
        chosen = outputs[place]
        ahead = groups[number + 1][1] if number + 1 < len(groups) else []
        if more is not None and was != 1 and len(outputs) == 1 and len(ahead) > 1 and after[ahead[0]] == 1:
            result[ahead[0]] = more  # rows that had joined this axis have one of their own again
            continue
        rest = math.prod(after[o] for o in outputs if o != chosen)
        share = now.over(Size.of(rest))
        if share is None:
            return None
        result[chosen] = share
    return result


def _place(
    was: int, more: Size | None, sizes: Sequence[int], given: Sequence[Size], inputs: Sequence[int]
) -> int | None:
    """Which of the axes of a group takes the free size; None where none can."""
    if not sizes:
        return None
    ones = [place for place, size in enumerate(sizes) if size == 1]
    if len(sizes) == 1:
        return 0
    if more is not None and ones:  # the batch was 1, and one axis of that size is there for it
        return ones[0]
    whole = [place for place, size in enumerate(sizes) if size == was]
    if whole:
        return whole[0]
    is_first = given[inputs[0]].number is None  # what comes first changes slowest, and so it does afterwards
    return 0 if is_first else None


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split the axes on both sides of a reshape into the smallest runs of equal products, from the front.

    An axis of size 1 that has no counterpart joins the run behind it, or the last one.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = o = 0
    while i < len(before) or o < len(after):
        inputs, outputs, have, want = [], [], 1, 1
        if i < len(before) and o < len(after) and before[i] == after[o]:
            groups.append(([i], [o]))
            i, o = i + 1, o + 1
            continue
        while i < len(before) or o < len(after):
            if have <= want and i < len(before):
                have *= before[i]
                inputs.append(i)
                i += 1
            elif o < len(after):
                want *= after[o]
                outputs.append(o)
                o += 1
            else:
                have *= before[i]
                inputs.append(i)
                i += 1
            is_even = have == want and inputs and outputs
            if is_even and have > 1:
                break
        groups.append((inputs, outputs))
    return groups


# --- constants that stand for one row ---------------------------------------------------------------------------------


def _concat(site: Site, sizes: _Sizes) -> None:
    """What has one row where the others have as many as the batch is there for each of them: a class token."""
    shapes_now = [known_shape(value) for value in site.node.inputs]
    axis = site.get("axis", 1)
    known = [shape for shape in shapes_now if shape is not None]
    if len(known) < len(shapes_now) or len({len(shape) for shape in known}) != 1:
        return
    along = axis % len(known[0])
    for slot, shape in enumerate(known):
        for place, size in enumerate(shape):
            free = [other for other in range(len(known)) if known[other][place].number is None]
            if place != along and size.number == 1 and free:
                site.set_input(slot, _repeated(site, slot, place, site.operand(free[0]), place, len(shape)))


def _states(site: Site, sizes: _Sizes) -> None:
    """The first states of a recurrent layer are those of one row: of each."""
    axis = 0 if site.get("layout", 0) else 1
    rows = known_shape(site.input(0))
    if rows is None or rows[axis].number is not None:
        return
    for slot in (5, 6):
        state = known_shape(site.input(slot))
        if state is not None and state[axis].number == 1:
            site.set_input(slot, _repeated(site, slot, axis, site.operand(0), axis, 3))


def _repeated(site: Site, slot: int, axis: int, like: ir.Value, place: int, rank: int) -> ir.Value:
    """An input of a node, repeated along an axis as often as another value has entries along one."""
    whole = site.op("Shape", f"shape{slot}", [like])
    size = site.op("Gather", f"size{slot}", [whole, site.constant(f"place{slot}", [place])], axis=0)
    parts = [site.constant(f"before{slot}", [1] * axis)] if axis else []
    parts.append(size)
    parts += [site.constant(f"behind{slot}", [1] * (rank - axis - 1))] if axis < rank - 1 else []
    target = site.op("Concat", f"target{slot}", parts, axis=0) if len(parts) > 1 else size
    return site.op("Expand", f"rows{slot}", [site.operand(slot), target])


def _expand(site: Site, sizes: _Sizes) -> None:
    """A number in the target that is the size of the input is left to the input."""
    given, before, stated = known_shape(site.input(0)), sizes.old(site.input(0)), sizes.known.numbers(site.input(1))
    if given is None or before is None or stated is None or len(stated) < len(given):
        return
    front = len(stated) - len(given)
    target = list(stated)
    for axis, size in enumerate(given):
        if size.number is None and stated[front + axis] == before[axis]:
            target[front + axis] = 1
    if target != list(stated):
        site.set_input(1, site.constant("sizes", target))


def _resize(site: Site, sizes: _Sizes) -> None:
    """Sizes that stay the input's own are taken from it."""
    given, before, stated = known_shape(site.input(0)), sizes.old(site.input(0)), sizes.known.numbers(site.input(3))
    if given is None or before is None or stated is None or len(stated) != len(given):
        return
    own = [axis for axis, size in enumerate(given) if size.number is None and stated[axis] == before[axis]]
    if not own:
        return
    whole = site.op("Shape", "shape", [site.operand(0)])
    parts = [
        site.op("Gather", f"size{axis}", [whole, site.constant(f"place{axis}", [axis])], axis=0)
        if axis in own
        else site.constant(f"stated{axis}", [size])
        for axis, size in enumerate(stated)
    ]
    site.set_input(3, site.op("Concat", "target", parts, axis=0))


_RULES: dict[str, _Rule] = {
    "Reshape": _reshape,
    "Concat": _concat,
    "Expand": _expand,
    "Resize": _resize,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _states),
}
