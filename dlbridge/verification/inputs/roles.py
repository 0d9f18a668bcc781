"""Finds what a graph uses each input for: to index a table, to compare with constants, as a mask.

The battery of inputs is made from this, so that it reaches what random numbers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes.matching import Match, stored
from dlbridge.verification.inputs.sizes import DEFAULT_SIZE
from dlbridge.verification.inputs.texts import Text, text_of

#: Which input of a recurrent layer has the sequence lengths.
_LENGTHS = 4
#: Ops whose output has the sequence lengths of their input, possibly in another order.
_LENGTHS_PRESERVING = {"Cast", "Reshape", "Identity", "TopK", "Gather"}
#: Ops whose output has the numbers of their input.
_PRESERVING = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Slice", "Flatten", "Clip", "Expand"}
_PRESERVING |= {"Gather", "Split"}
#: Ops whose output has indices of their inputs: the two rows of the edges of a graph, edges and a loop for each node.
_INDEX_PRESERVING = _PRESERVING | {"Concat", "Tile"}
#: Ops of whose outputs each number is one of the first input's, so that an edge of the output is one of the input.
_CHOOSING = _PRESERVING | {"TopK", "MaxPool", "ReduceMax", "ReduceMin", "GatherElements", "GatherND", "Relu"}
#: (op, input) -> the input that is the table which it indexes.
_TABLES = {("Embedding", 0): 1, ("Gather", 1): 0, ("GatherElements", 1): 0, ("ScatterElements", 1): 0}
_TABLES |= {("RoiAlign", 2): 0, ("OneHot", 0): 1}
#: Ops with which a number is compared, or cut: their constants are edges.
_COMPARING = {
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "Clip",
    "Max",
    "Min",
    "Mod",
    "ThresholdedRelu",
}
#: Ops with a constant that multiply a number, or add one to it.
_AFFINE = ("Add", "Sub", "Mul", "Div")
#: Where a number is rounded to another one.
_HALVES, _WHOLE = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), (-2.0, -1.0, 0.0, 1.0, 2.0)
#: Ops that make something of a size that they are told: from which input on they are told it.
_SIZES = {"Range": 0, "ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Reshape": 1, "Pad": 1, "Resize": 1, "OneHot": 1}
_SIZES |= {"TopK": 1, "Upsample": 1, "CenterCropPad": 1, "AffineGrid": 1, "MaxUnpool": 2, "Slice": 1, "Split": 1}
_SIZES |= {"DFT": 1, "STFT": 1, "HannWindow": 0, "HammingWindow": 0, "BlackmanWindow": 0, "MelWeightMatrix": 0}
_NEVER = 1 << 30
#: A constant with more numbers than this is a table, no edge.
_MOST_EDGES = 8


@dataclass(frozen=True)
class Role:
    """What a graph does with an input.

    Attributes:
        value: The input.
        rows: The number below which it is an index of all tables that it indexes, where a constant may be added to it
            before; None if it is not used as an index.
        least: The number from which on it is an index that does not count from the end.
        is_gathered: Whether some table that it indexes counts negative indices from the end.
        takes_negative: Whether every table that it indexes counts negative indices from the end.
        steps: The number of steps of the sequences whose lengths it has; None if it has no lengths.
        edges: The constants that it is compared with or cut at.
        is_mask: Whether it switches something on and off.
        decides_sizes: Whether it may decide how large something is, or how often something is done: a large number
            would take all memory.
        text: What it does with the strings that the input holds; None if it holds none.
    """

    value: ir.Value
    rows: int | None = None
    least: int = 0
    is_gathered: bool = False
    takes_negative: bool = False
    steps: int | None = None
    edges: tuple[float, ...] = ()
    is_mask: bool = False
    decides_sizes: bool = False
    text: Text | None = None

    @property
    def name(self) -> str:
        return self.value.name or ""

    @property
    def is_float(self) -> bool:
        return self.value.dtype is not None and self.value.dtype.is_floating_point()

    @property
    def is_integer(self) -> bool:
        return self.value.dtype is not None and self.value.dtype.is_integer()

    @property
    def is_free_integer(self) -> bool:
        """Whether it is an integer that is neither an index nor a length."""
        return self.is_integer and self.rows is None and self.steps is None


def roles(model: Model, sizes: Mapping[str, int]) -> list[Role]:
    """The role of each input, at these sizes."""
    return [
        Role(
            value,
            rows=_rows(value, sizes),
            least=_least(value),
            is_gathered=any(is_op(use.node, "Gather") for use in _index_uses(value)),
            takes_negative=_takes_negative(value),
            steps=_steps(value, sizes),
            edges=_edges(value),
            is_mask=_is_mask(value),
            decides_sizes=_decides_sizes(value),
            text=text_of(value),
        )
        for value in model.inputs
    ]


def _steps(value: ir.Value, sizes: Mapping[str, int]) -> int | None:
    for node, slot in _uses_through(value, _LENGTHS_PRESERVING):
        if is_op(node, "RNN", "GRU", "LSTM") and slot == _LENGTHS:
            x = node.inputs[0]
            axis = 1 if Match(node).get("layout", 0) else 0
            steps = x.shape[axis] if x is not None and x.shape is not None else 1
            return steps if isinstance(steps, int) else sizes.get(steps.value or "", DEFAULT_SIZE)
    return None


def table_uses(value: ir.Value) -> Iterator[tuple[ir.Node, ir.Value]]:
    """(node, table) of each node that a value indexes a table in, as it is."""
    uses = (use for use in _index_uses(value) if not is_op(use.node, "OneHot"))
    yield from ((use.node, use.table) for use in uses if not use.offset)


@dataclass(frozen=True)
class _IndexUse:
    """A use as the index of a table: of the value and a number, which is cut off below 0 or not."""

    node: ir.Node
    table: ir.Value
    offset: int
    is_cut: bool


def _index_uses(value: ir.Value) -> Iterator[_IndexUse]:
    """The uses as an index, also through ops that keep the numbers, or add a constant to them."""
    seen: set[ir.Value] = set()
    pending = [(value, 0, False)]
    while pending:
        current, offset, is_cut = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for node, slot in current.uses():
            table = _TABLES.get((op_key(node), slot))
            held = node.inputs[table] if table is not None else None
            if held is not None:
                yield _IndexUse(node, held, offset, is_cut)
            if op_key(node) in _INDEX_PRESERVING and (slot == 0 or is_op(node, "Concat")):
                pending.append((node.outputs[0], offset, is_cut or (is_op(node, "Clip") and len(node.inputs) > 1)))
            added = _added(node, slot)
            if added is not None:
                pending.append((node.outputs[0], offset + added, is_cut))


def _added(node: ir.Node, slot: int) -> int | None:
    """The integer constant that a node adds to an input; None if it does something else."""
    if not is_op(node, "Add") and not (is_op(node, "Sub") and slot == 0):
        return None
    number = _number(node.inputs[1 - slot])
    if not isinstance(number, int):
        return None
    return number if is_op(node, "Add") else -number


def _number(value: ir.Value | None) -> float | None:
    """The number of a constant of one element, an ``int`` if its type is an integer; None where there is none."""
    tensor = stored(value)
    if tensor is None or tensor.size != 1:
        return None
    number = tensor.numpy().reshape(-1)[0]
    return int(number) if tensor.dtype.is_integer() else float(number)


def _rows(value: ir.Value, sizes: Mapping[str, int]) -> int | None:
    limits: list[int] = []
    for use in _index_uses(value):
        if is_op(use.node, "OneHot"):  # its table is as long as the number says; PyTorch takes no index beyond
            classes = _number(use.table)
            limits += [int(classes) - use.offset] if classes is not None else []
            continue
        axis = Match(use.node).get("axis", 0)
        if use.table.shape is None:
            limits.append(2)
            continue
        size = use.table.shape[axis]
        rows = size if isinstance(size, int) else sizes.get(size.value or "", DEFAULT_SIZE)
        limits.append(rows - use.offset)
    return max(1, min(limits)) if limits else None


def _least(value: ir.Value) -> int:
    return max((-use.offset for use in _index_uses(value) if not use.is_cut), default=0)


def _takes_negative(value: ir.Value) -> bool:
    """A ``Gather`` counts negative indices from the end; an embedding layer and a scatter have none."""
    uses = list(_index_uses(value))
    return bool(uses) and all(is_op(use.node, "Gather") and not use.offset for use in uses)


def _edges(value: ir.Value) -> tuple[float, ...]:
    """The numbers of an input at which the graph does something else: what it is compared with, or rounded at, where
    the input may be scaled and moved by constants before."""
    found: set[float] = set()
    for node, slot, factor, offset in _scaled_uses(value):
        for number in _bends(node, slot):
            if np.isfinite(number) and factor:
                found.add((number - offset) / factor)
    return tuple(sorted(found))


def _bends(node: ir.Node, slot: int) -> Iterator[float]:
    """The numbers at which an op does something else with one of its inputs."""
    if is_op(node, "Round"):
        yield from _HALVES
    elif is_op(node, "Floor", "Ceil"):
        yield from _WHOLE
    elif is_op(node, *_COMPARING):
        for other, operand in enumerate(node.inputs):
            tensor = stored(operand) if other != slot else None
            if tensor is not None and tensor.size <= _MOST_EDGES:
                yield from (float(number) for number in tensor.numpy().astype(np.float64).reshape(-1))


def _scaled_uses(value: ir.Value) -> Iterator[tuple[ir.Node, int, float, float]]:
    """(node, input index, factor, offset) of every use of a value, also through ops that keep its numbers, or multiply
    them by a constant and add one: the node reads ``factor value + offset``."""
    seen: set[ir.Value] = set()
    pending = [(value, 1.0, 0.0)]
    while pending:
        current, factor, offset = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for node, slot in current.uses():
            yield node, slot, factor, offset
            if op_key(node) in _CHOOSING and slot == 0:
                pending.append((node.outputs[0], factor, offset))
            elif is_op(node, "Neg"):
                pending.append((node.outputs[0], -factor, -offset))
            elif is_op(node, *_AFFINE):
                number = _number(node.inputs[1 - slot])
                if number is not None:
                    pending += [(node.outputs[0], *moved) for moved in _moved(node, slot, factor, offset, number)]


def _moved(node: ir.Node, slot: int, factor: float, offset: float, number: float) -> Iterator[tuple[float, float]]:
    """The factor and the offset behind a sum or product with a constant; none where that is no such number."""
    if is_op(node, "Add"):
        yield factor, offset + number
    elif is_op(node, "Sub"):
        yield (factor, offset - number) if slot == 0 else (-factor, number - offset)
    elif is_op(node, "Mul"):
        yield factor * number, offset * number
    elif slot == 0 and number:
        yield factor / number, offset / number


def _is_mask(value: ir.Value) -> bool:
    """Whether it is boolean, becomes so, or is subtracted from one (``(1 - mask) * -1e4``)."""
    if value.dtype == ir.DataType.BOOL:
        return True
    for node, slot in _uses_through(value, _PRESERVING):
        if is_op(node, "Cast") and node.outputs[0].dtype == ir.DataType.BOOL:
            return True
        minuend = stored(node.inputs[0]) if is_op(node, "Sub") and slot == 1 else None
        if minuend is not None and minuend.size == 1 and float(minuend.numpy().reshape(-1)[0]) == 1.0:
            return True
    return False


def _decides_sizes(value: ir.Value) -> bool:
    """Whether a value reaches an op that makes something of a size that it is told, or a graph within a node."""
    for node, slot in _uses_from(value, lambda node, slot: () if is_op(node, "Shape", "Size") else node.outputs):
        has_graph = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        is_inner = node.graph is not None and node.graph is not value.graph  # a pass that removes a node leaves its use
        if has_graph or is_inner or slot >= _SIZES.get(op_key(node), _NEVER):
            return True
    return False


def _uses_through(value: ir.Value, handing_on: Collection[str]) -> Iterator[tuple[ir.Node, int]]:
    """Yield (node, input index) of every use of a value, also through ops that keep its numbers."""

    def handed_on(node: ir.Node, slot: int) -> Sequence[ir.Value]:
        keeps = op_key(node) in handing_on and (slot == 0 or is_op(node, "Concat"))
        return node.outputs[:1] if keeps else ()

    return _uses_from(value, handed_on)


def _uses_from(value: ir.Value, further: Callable[[ir.Node, int], Sequence[ir.Value]]) -> Iterator[tuple[ir.Node, int]]:
    """Yield (node, input index) of every use of a value, and of those values that ``further`` gives of a use."""
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for node, slot in current.uses():
            yield node, slot
            pending += further(node, slot)
