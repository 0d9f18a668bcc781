"""Finds the first node whose inputs agree and whose outputs do not.

Values of the neutral form have names; the intermediate values of a written model have none that can be relied on. But
in float64 equal values are equal to many digits, so a value of the neutral form counts as right if the written model
computes an array with the same numbers anywhere, in whatever layout.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.evaluator import Evaluator
from dlbridge.ops.keys import is_op, op_key
from dlbridge.verification.causes import alone, likely_cause
from dlbridge.verification.departure import Departure, Traced
from dlbridge.verification.depth import all_values
from dlbridge.verification.forms import Form
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays
from dlbridge.verification.sizes import bytes_of_weights, elements

#: Equal numbers in float64, relative to the largest. Constants are kept in float32 by frameworks and in ONNX files.
_EQUAL = 1e-6
#: Numbers below this part of the largest one are of another kind where none lie between that and the next part.
_FAR_BELOW, _NEAR = 1e-3, 0.1
#: A model with more bytes of weights is not searched: all of its values in float64 would not fit into memory.
_LARGEST = 1 << 30
#: Nor is one whose values take more bytes: they are held twice, those of the evaluator and those of the written form.
_MOST_VALUES = 3 << 30
#: Ops that put numbers into another order or take some of them: a value is recognised in any order of its axes, so that
#: what is wrong with these shows only where their result is read.
_ORDERING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather", "Slice", "Split", "Concat", "Expand")
#: How many of these are looked at before a node.
_FARTHEST = 6
#: Arrays with more axes than this are compared without trying other orders of the axes.
_PERMUTED = 5


def first_departure(
    model: Model, route: Form, judge: Judge, index: int, arrays: Arrays, outputs: set[str]
) -> Departure:
    """Find the node where a route first departs from the judge.

    Args:
        model: The model in the neutral form.
        route: The route that departs.
        judge: The judge.
        index: Which set of inputs.
        arrays: These inputs.
        outputs: Names of the outputs that depart.
    """
    why = too_large(model, arrays)
    if why:
        return Departure(f"the node is not looked for: {why}")
    try:
        values = Evaluator(model.ir).values(arrays)
    except Exception as error:  # an op that the reference evaluator lacks
        return Departure(f"the node cannot be named: the reference evaluator fails ({type(error).__name__}: {error})")
    exact = judge.exact(index)
    read_wrong = exact is not None and any(
        not _equal(values[name], array) for name, array in exact.items() if name in values
    )
    if read_wrong:
        shown = Shown(judge.shown(index) or [])
        node = _first(model, values, shown, outputs)
        return _told(
            "it was read wrong: the neutral form first departs from the original at", model, node, values, shown
        )
    seen = Traced()
    wide = route.exact([arrays], seen)
    if wide is None:
        seen = Traced(np.asarray(a, np.float64) for a in all_values(model, route.name, arrays).values())
    shown = Shown(seen)
    node = _first(model, values, shown, outputs)
    if node is None and wide is not None and exact is not None:
        off = [n for n in sorted(outputs) if n in wide[0] and not _equal(wide[0][n], np.asarray(exact[n]))]
        node = _last_computing(model, off[0]) if off else None
    if node is None:
        return Departure(
            "every value on the way agrees in float64: the types or the rounding of the written form depart"
        )
    found = _told("the first node whose inputs agree and whose outputs do not is", model, node, values, shown)
    found.line = _line(route, node, values, seen, shown)
    return found


def too_large(model: Model, arrays: Arrays) -> str:
    """Why not all values on the way are held in float64; empty where they may be."""
    weights = bytes_of_weights(model)
    if weights > _LARGEST:
        return f"the model has {weights >> 20} MiB of weights"
    held = 8 * elements(model, _sizes(model, arrays))
    return f"the values on the way take {held >> 30} GiB for these inputs" if held > _MOST_VALUES else ""


def _sizes(model: Model, arrays: Arrays) -> dict[str, int]:
    """The named sizes of these inputs."""
    return {
        dim.value: size
        for value in model.inputs
        for dim, size in zip(value.shape or (), arrays[value.name or ""].shape, strict=False)
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }


def _last_computing(model: Model, output: str) -> ir.Node | None:
    """The node whose numbers an output has: the last one before it that does more than put them into an order."""
    node = next(v for v in model.outputs if v.name == output).producer()
    while node is not None and is_op(node, *_ORDERING):
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None:
            break
        node = before
    return node


def _told(text: str, model: Model, node: ir.Node | None, values: Arrays, shown: Shown) -> Departure:
    """Describe the node where a form departs: the modules around it, and what it computes instead."""
    if node is None:
        return Departure(f"{text} the outputs: every node agrees")
    name = node.name or node.outputs[0].name or ""
    departure = Departure(f"{text} node '{name}' ({op_key(node)})", name, op_key(node), _modules(model, name))
    single = alone([node], values, node)
    if single is not None:
        departure.single, departure.inputs, departure.right = single
        departure.found = shown.instead(departure.inputs, departure.right)
        departure.cause = likely_cause(*single, shown, departure.found)
    if not departure.cause:
        found = _in_order_before(model, node, values, shown)
        departure = departure if found is None else found
    return departure


def _in_order_before(model: Model, node: ir.Node, values: Arrays, shown: Shown) -> Departure | None:
    """A departure at an op before a node that gives it numbers in the wrong order, if that explains its numbers."""
    before: list[ir.Node] = []
    pending = [node]
    while pending and len(before) < _FARTHEST:
        current = pending.pop(0)
        makers = [v.producer() for v in current.inputs if v is not None]
        ordering = [m for m in makers if m is not None and is_op(m, *_ORDERING) and m not in before]
        before += ordering
        pending += ordering
    for first in before:
        chain = [n for n in model.graph if n is first or n is node or n in before]
        single = alone(chain, values, node)
        if single is None:
            continue
        cause = likely_cause(*single, shown, None, at=first.name or "")
        if cause:
            name = first.name or first.outputs[0].name or ""
            text = f"the numbers of node '{name}' ({op_key(first)}) come in another order to '{node.name}'"
            return Departure(text, name, op_key(first), _modules(model, name), None, cause, *single)
    return None


def _modules(model: Model, name: str) -> str:
    """The blocks around a node with their classes: ``layer1 (Sequential) > layer1.0 (BasicBlock)``."""
    classes = traits.blocks(model.graph)
    parts = name.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return " > ".join(f"{path} ({classes[path]})" for path in paths if path in classes)


def _line(route: Form, node: ir.Node, values: Arrays, seen: Traced, shown: Shown) -> tuple[int, str] | None:
    """The line of the written file that computes a node; None if the form has no file, or it cannot be told."""
    text = getattr(route, "text", "")
    if not text:
        return None
    lines = text.splitlines()
    inputs = [values[v.name] for v in node.inputs if v is not None and v.name in values]
    places = [shown.place(array) for array in inputs if _tells(array)]
    last = max((place for place in places if place is not None), default=-1)
    right = Shown([array for array in values.values() if _tells(array)])
    size = next((values[v.name].size for v in node.outputs if v.name in values), 0)
    for place in range(last + 1, len(seen)):
        number, array = seen.lines[place], seen[place]
        if number is not None and number <= len(lines) and array.size == size and not right.has(array):
            return number, lines[number - 1]
    return _line_that_names(lines, (node.name or "").rpartition(".")[2])


def _line_that_names(lines: list[str], name: str) -> tuple[int, str] | None:
    """The only line that calls an attribute of that name, or else the only one that has it between quotes."""
    for spelling in (f".{name}(", f'"{name}"') if name else ():
        found = [(number, line) for number, line in enumerate(lines, 1) if spelling in line]
        if len(found) == 1:
            return found[0]
    return None


def _first(model: Model, values: Arrays, shown: Shown, outputs: set[str]) -> ir.Node | None:
    """The first node with an output that was not computed, and from which nothing that was computed is derived."""
    depends: set[ir.Value] = set(model.inputs)
    nodes = list(model.graph)
    for node in nodes:
        if any(v in depends for v in _reads(node)):
            depends.update(node.outputs)
    matched: set[ir.Value] = set()
    compared: set[ir.Value] = set()
    for node in reversed(nodes):
        for value in node.outputs:
            array = values.get(value.name or "")
            if not value.uses() and not value.is_graph_output():
                continue  # a form need not compute what nothing reads
            if value in depends and array is not None and _tells(array):
                compared.add(value)
                readers = [
                    use.node for use in value.uses() if not is_op(use.node, "Concat")
                ]  # its numbers hide smaller ones
                if any(o in matched for reader in readers for o in reader.outputs) or shown.has(array):
                    matched.add(value)
            elif value.is_graph_output() and value.name in outputs:
                compared.add(value)
    return next((n for n in nodes if any(v in compared and v not in matched for v in n.outputs)), None)


def _tells(array: np.ndarray) -> bool:
    """Whether an array can be recognised by its numbers: floats that are not all equal."""
    return array.dtype == np.float64 and array.size > 1 and bool((array != array.flat[0]).any())


def _reads(node: ir.Node) -> Iterable[ir.Value | None]:
    yield from node.inputs
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            for inner in graph:
                yield from _reads(inner)


def _graphs(attribute: Any) -> Iterable[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        yield attribute.as_graph()
    elif attribute.type == ir.AttributeType.GRAPHS:
        yield from attribute.as_graphs()


class Shown:
    """The arrays that a form of the model has computed, for looking up others by their numbers."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._by_size: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for place, array in enumerate(arrays):
            array = np.asarray(array, np.float64)
            self._by_size.setdefault(array.size, []).append((place, array, _marks(array)))

    def has(self, wanted: np.ndarray) -> bool:
        """Whether one of them has these numbers, in any shape and any order of the axes."""
        return self.place(wanted) is not None

    def place(self, wanted: np.ndarray) -> int | None:
        """The position of the first that has these numbers; None if there is none."""
        wanted = np.asarray(wanted, np.float64)
        marks = _marks(wanted)
        for place, array, own in self._by_size.get(wanted.size, []):
            if np.allclose(marks, own, rtol=_EQUAL, atol=_EQUAL * marks[0]) and _same_numbers(array, wanted):
                return place
        return None

    def instead(self, inputs: Arrays, right: Arrays) -> np.ndarray | None:
        """What was computed in the place of an output: the first array of its shape behind the inputs; None if there is
        none."""
        wanted = next(iter(right.values()))
        places = [self.place(array) for array in inputs.values() if _tells(array)]
        last = max((place for place in places if place is not None), default=-1)
        for place, array, _ in self._by_size.get(wanted.size, []):
            if place > last and array.shape == wanted.shape and _tells(array):
                return array
        return None


def _marks(array: np.ndarray) -> np.ndarray:
    """The largest magnitude, maximum, minimum and mean: they do not depend on the order of the axes."""
    finite = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(finite).max(initial=0.0)
    mean = finite.mean() if finite.size else 0.0
    return np.array([largest, finite.max(initial=-largest), finite.min(initial=largest), mean])


def _same_numbers(array: np.ndarray, wanted: np.ndarray) -> bool:
    if _equal(array.reshape(-1), wanted.reshape(-1)):
        return True
    for one, other in ((array, wanted), (wanted, array)):
        if 2 <= one.ndim <= _PERMUTED:
            for order in itertools.permutations(range(one.ndim)):
                if _equal(one.transpose(order).reshape(-1), other.reshape(-1)):
                    return True
    return False


def _equal(array: np.ndarray, wanted: np.ndarray) -> bool:
    if array.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(array, wanted))
    return bool(np.allclose(array, wanted, rtol=0.0, atol=_EQUAL * _scale(wanted), equal_nan=True))


def _scale(wanted: np.ndarray) -> np.ndarray:
    """What each number is compared relative to: the largest of the array; where a mask has put a few much larger ones
    beside the others, the largest of the others for these."""
    sizes = np.abs(np.where(np.isfinite(wanted), wanted, 0.0))
    largest = sizes.max(initial=0.0)
    is_small = sizes <= _FAR_BELOW * largest
    below = sizes[is_small].max(initial=0.0)
    between = ~is_small & (sizes < _NEAR * largest)
    if not below or between.any():
        return np.asarray(largest)
    return np.where(is_small, below, largest)
