"""Finds the first node whose inputs agree and whose outputs do not.

Values of the neutral form have names; the intermediate values of a written model have none that can be relied on. But
in float64 equal values are equal to many digits, so a value of the neutral form counts as right if the written model
computes an array with the same numbers anywhere, in whatever layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.evaluator import Evaluator, eps
from dlbridge.ops.keys import is_op, op_key
from dlbridge.verification.departures.causes import alone, likely_cause, read_on
from dlbridge.verification.departures.departure import Departure, Traced
from dlbridge.verification.departures.depth import all_values
from dlbridge.verification.departures.shown import Shown, equal, tells
from dlbridge.verification.forms import Form
from dlbridge.verification.inputs.sizes import bytes_of_weights, elements
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays, is_float, mismatch

#: A model with more bytes of weights is not searched: all of its values in float64 would not fit into memory.
_LARGEST = 1 << 30
#: Nor is one whose values take more bytes: they are held twice, those of the evaluator and those of the written form.
_MOST_VALUES = 3 << 30
#: Ops that put numbers into another order or take some of them: a value is recognised in any order of its axes, so that
#: what is wrong with these shows only where their result is read.
_ORDERING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather", "Slice", "Split", "Concat", "Expand")
#: Of these, the ones that leave numbers out: what they give may be right where what they take it from is not.
_TAKING = ("Gather", "Slice", "Split")
#: Kinds of types, of which code may have another of the same sort.
_KINDS = {"f": "float", "i": "integer", "u": "integer", "b": "truth"}
#: How many ordering ops are looked at before a node.
_FARTHEST = 6
#: What is said of the node that is found.
_FIRST = "the first node whose inputs agree and whose outputs do not is"
#: How often a form is run again that departed once, and has the right numbers when it is run in float64.
_RUNS_AGAIN = 12


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
        not equal(values[name], array) for name, array in exact.items() if name in values
    )
    given = [np.asarray(array) for array in arrays.values()]
    if read_wrong:
        shown = Shown([*given, *(judge.shown(index) or [])])
        node = _first(model, values, shown, outputs)
        return _told(
            "it was read wrong: the neutral form first departs from the original at", model, node, values, shown
        )
    seen = Traced(given)
    wide = route.exact([arrays], seen)
    if wide is None:
        return _written_once_more(model, route, judge, values, arrays, outputs)
    off = _off(wide[0], exact, outputs) if exact is not None else set()
    shown = Shown(seen)
    node = _first(model, values, shown, outputs, off)
    if node is None:
        return _in_own_types(model, route, judge, index, values, arrays, outputs)
    found = _told(_FIRST, model, node, values, shown, Shown(list(wide[0].values())))
    found.line = _line(route, node, values, seen, shown)
    return found


def _written_once_more(
    model: Model, route: Form, judge: Judge, values: Arrays, arrays: Arrays, outputs: set[str]
) -> Departure:
    """The departure of a form that shows nothing of what it computes on the way: where its framework wrote it as it is,
    the model is written once more with every value as an output."""
    writer = getattr(route, "as_written", None)
    if writer is None:
        return Departure(f"the node cannot be named: '{route.name}' shows no values on the way to its outputs")
    shown = Shown([*arrays.values(), *all_values(model, writer, arrays).values()], judge.allowance().most)
    node = _first(model, values, shown, outputs)
    if node is None:
        return Departure(
            "the node cannot be named: every node agrees where the model is written with all values as outputs"
        )
    return _told(_FIRST, model, node, values, shown)


def _in_own_types(
    model: Model, route: Form, judge: Judge, index: int, values: Arrays, arrays: Arrays, outputs: set[str]
) -> Departure:
    """The departure of a form that computes the right numbers in float64: it has others in its own types, or gives
    other numbers each time, or only returns them in another type or shape."""
    text = "every value on the way agrees in float64: the types or the rounding of the written form depart"
    bound = judge.allowance().most
    seen, computed = Traced(), None
    for _ in range(_RUNS_AGAIN):
        seen = Traced(np.asarray(array) for array in arrays.values())
        computed = getattr(route, "in_own_types", _nothing)(arrays, seen)
        if computed is None:
            return Departure(text)
        unlike = mismatch(computed, judge.own[index])
        if unlike:
            return _returned(model, min(unlike))
        off = {name for name in outputs if not equal(computed[name].astype(values[name].dtype), values[name], bound)}
        if off:
            break
    else:
        return Departure("every value on the way agrees when it is run again: it keeps state, or draws random numbers")
    shown = Shown(seen, bound)
    node = _first(model, values, shown, outputs, off)
    if node is None:
        return Departure(text)
    text = "in float64 every value agrees; in the types that it is run in, the first node whose outputs do not is"
    found = _told(text, model, node, values, shown)
    found.line = _line(route, node, values, seen, shown)
    found.cause = _narrow(model, seen) or found.cause
    return found


def _off(found: Arrays, right: Arrays, outputs: set[str]) -> set[str]:
    """The names of the outputs whose numbers are not the right ones."""
    return {
        name for name in outputs if name in found and name in right and not equal(found[name], np.asarray(right[name]))
    }


def _nothing(arrays: Arrays, seen: Traced) -> None:
    """The run of a form that does not show what it computes in its own types."""


def _returned(model: Model, output: str) -> Departure:
    """The departure of a form that computes every value, and returns one in another type or shape."""
    node = next((v.producer() for v in model.outputs if v.name == output), None)
    text = f"every value on the way agrees; output '{output}' has another type or shape"
    if node is None:
        return Departure(text)
    return Departure(text, node.name, op_key(node), _modules(model, node.name or ""))


def _narrow(model: Model, seen: Traced) -> str:
    """What is said of the first float type of a form that is narrower than those of the model; empty if none is."""
    held = (*model.graph.initializers.values(), *(v for node in model.graph for v in node.outputs), *model.inputs)
    types = {v.dtype for v in held if v.dtype is not None and v.dtype.is_floating_point()}
    coarsest = max((eps(t.numpy()) for t in types), default=0.0)
    narrow = (array.dtype for array in seen if is_float(array.dtype) and eps(array.dtype) > coarsest)
    return next((f"numbers are held in {dtype.name}" for dtype in narrow if coarsest), "")


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


def _told(
    text: str, model: Model, node: ir.Node | None, values: Arrays, shown: Shown, returned: Shown | None = None
) -> Departure:
    """Describe the node where a form departs: the modules around it, and what it computes instead. ``returned`` is what
    the form returns, where that is known."""
    if node is None:
        return Departure(f"{text} the outputs: every node agrees")
    name = node.name or node.outputs[0].name or ""
    departure = Departure(f"{text} node '{name}' ({op_key(node)})", name, op_key(node), _modules(model, name))
    single = alone([node], values, node)
    if single is not None:
        departure.single, departure.inputs, departure.right = single
        departure.found = shown.instead(departure.inputs, departure.right)
        goes_on = read_on(node, values, shown, returned)
        departure.cause = likely_cause(*single, shown, departure.found, goes_on=goes_on)
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
    last = _last_before(node, values, shown)
    right = Shown([array for array in values.values() if tells(array) or array.size == 1], shown.tolerance)
    wanted = next((values[v.name] for v in node.outputs if v.name in values), np.empty(0))
    for place in range(last + 1, len(seen)):
        number, array = seen.lines[place], seen[place]
        is_alike = array.size == wanted.size and _KINDS.get(array.dtype.kind) == _KINDS.get(wanted.dtype.kind)
        if number is not None and number <= len(lines) and is_alike and not right.has(array):
            return number, lines[number - 1]
    return _line_that_names(lines, (node.name or "").rpartition(".")[2])


def _last_before(node: ir.Node, values: Arrays, shown: Shown) -> int:
    """The place, among what a form has computed, of the last input of a node; -1 if none can be told. Where the inputs
    cannot be recognised by their numbers, it is that of what they are computed from."""
    read = [v for v in node.inputs if v is not None]
    for _ in range(_FARTHEST):
        arrays = [values[v.name] for v in read if v.name in values]
        places = [shown.place(array) for array in arrays if tells(array)]
        known = [place for place in places if place is not None]
        if known:
            return max(known)
        makers = [v.producer() for v in read]
        read = [v for maker in makers if maker is not None for v in maker.inputs if v is not None]
    return -1


def _line_that_names(lines: list[str], name: str) -> tuple[int, str] | None:
    """The only line that calls an attribute of that name, or else the only one that gives a layer that name."""
    for spelling in (f".{name}(", f'name="{name}"') if name else ():
        found = [(number, line) for number, line in enumerate(lines, 1) if spelling in line]
        if len(found) == 1:
            return found[0]
    return None


def _first(model: Model, values: Arrays, shown: Shown, outputs: set[str], off: Collection[str] = ()) -> ir.Node | None:
    """The first node with an output that was not computed, and from which nothing that was computed is derived.

    Args:
        model: The model in the neutral form.
        values: Its values.
        shown: What the form has computed.
        outputs: Names of the outputs that depart.
        off: Those of them whose numbers the form returns wrong, wherever it may have computed the right ones.
    """
    nodes = list(model.graph)
    told = _told_by_numbers(model, nodes, values)
    of_floats = {value for value in told if values[value.name or ""].dtype.kind == "f"}
    computed: set[ir.Value] = set()

    def is_computed(value: ir.Value) -> bool:
        """Whether the form has the value, or one that is derived from it: its readers have been looked at."""
        if value not in told or value.name in off:
            return False
        derived = computed.intersection(_derived(value))
        # which number is the largest stays when the numbers that it comes from are off
        return bool(derived & of_floats if value in of_floats else derived) or shown.has(values[value.name or ""])

    def is_compared(value: ir.Value) -> bool:
        if value in told:
            return bool(value.uses()) or value.is_graph_output()  # a form need not compute what nothing reads
        return value.is_graph_output() and value.name in outputs

    for node in reversed(nodes):
        computed.update(value for value in node.outputs if is_compared(value) and is_computed(value))
    return next((n for n in nodes if any(is_compared(v) and v not in computed for v in n.outputs)), None)


def _derived(value: ir.Value) -> Iterator[ir.Value]:
    """The values that a value is read for: they are wrong where it is."""
    readers = [use.node for use in value.uses()]
    # what takes a part of the numbers may be right all the same, and beside larger numbers wrong ones do not show
    whole = [node for node in readers if not is_op(node, *_TAKING)]
    for reader in whole or readers:
        if not is_op(reader, "Concat"):
            yield from reader.outputs


def _told_by_numbers(model: Model, nodes: Sequence[ir.Node], values: Arrays) -> set[ir.Value]:
    """The values that can be recognised by their numbers: floats that depend on an input, and integers and masks that
    depend on the numbers of one, for a form need not compute sizes as tensors."""
    depends, of_numbers = _depending(model, nodes, ()), _depending(model, nodes, ("Shape", "Size"))
    known = ((value, values.get(value.name or "")) for node in nodes for value in node.outputs)
    recognised = [(value, array) for value, array in known if array is not None and tells(array)]
    return {value for value, array in recognised if value in (depends if array.dtype.kind == "f" else of_numbers)}


def _depending(model: Model, nodes: Sequence[ir.Node], cut: Sequence[str]) -> set[ir.Value]:
    """The values that depend on an input, other than through these ops."""
    depends: set[ir.Value] = set(model.inputs)
    for node in nodes:
        if not (cut and is_op(node, *cut)) and any(v in depends for v in _reads(node)):
            depends.update(node.outputs)
    return depends


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
