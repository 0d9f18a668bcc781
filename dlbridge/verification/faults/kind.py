"""What a kind of fault is: a function that finds where it is legal in a graph, and says how it is planted there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes.matching import Match, stored

#: Changes a node of a copy of the graph.
Change = Callable[[ir.Node], None]
#: The changes that a kind of fault can make to a node; none where it is not legal.
Finds = Callable[[Match], Iterator[Change]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: What it is, in a few words.
        finds: Yields the changes that it can make to a node.
    """

    name: str
    finds: Finds


@dataclass(frozen=True)
class Fault:
    """A fault that can be planted into a model.

    Attributes:
        kind: Its kind.
        node: The name of the node that it changes.
        op: The op of that node.
        place: The position of the node among all nodes of the graph.
        change: Changes that node.
    """

    kind: str
    node: str
    op: str
    place: int
    change: Change

    def __str__(self) -> str:
        return f"{self.node} ({self.op}): {self.kind}"

    def planted(self, model: Model) -> Model:
        """A copy of a model with the fault."""
        faulty = model.clone()
        self.change(list(faulty.graph.all_nodes())[self.place])
        return faulty


#: All kinds, in the order in which they are defined.
KINDS: list[Kind] = []


def kind(name: str) -> Callable[[Finds], Finds]:
    """Register a function as a kind of fault."""

    def register(finds: Finds) -> Finds:
        KINDS.append(Kind(name, finds))
        return finds

    return register


# --- what changes are made of -----------------------------------------------------------------------------------------


def set_attribute(name: str, value: Any) -> Change:
    """Give an attribute another value."""

    def change(node: ir.Node) -> None:
        node.attributes[name] = ir.convenience.convert_attribute(name, value)

    return change


def replace_op(op: str, **attributes: Any) -> Change:
    """Make the node another op of the standard with the same inputs."""

    def change(node: ir.Node) -> None:
        node.domain, node.op_type = "", op
        node.attributes.clear()
        for name, value in attributes.items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)

    return change


def swap_inputs(first: int, second: int) -> Change:
    """Exchange two inputs."""

    def change(node: ir.Node) -> None:
        one, other = node.inputs[first], node.inputs[second]
        node.replace_input_with(first, other)
        node.replace_input_with(second, one)

    return change


def drop_input(slot: int) -> Change:
    """Leave an input out."""
    return lambda node: node.replace_input_with(slot, None)


def bypass(slot: int = 0) -> Change:
    """Let everything that reads the node's first output read one of its inputs."""

    def change(node: ir.Node) -> None:
        source = node.inputs[slot]
        assert source is not None and node.graph is not None
        _insert(node, "Identity", [source], node.outputs[0])
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            node.graph.remove(node, safe=True)

    return change


def through(*ops: tuple[str, dict[str, Any]]) -> Change:
    """Send the node's first output through further ops of the standard."""

    def change(node: ir.Node) -> None:
        output = node.outputs[0]
        for op, attributes in ops:
            output = _insert(node, op, [output], output, **attributes)

    return change


def before(slot: int, op: str, **attributes: Any) -> Change:
    """Send one of the node's inputs through an op of the standard first."""

    def change(node: ir.Node) -> None:
        value = node.inputs[slot]
        assert value is not None and node.graph is not None
        made = ir.node(op, [value], attributes, name=f"{node.name}_before_{slot}")
        node.graph.insert_before(node, made)
        result = made.outputs[0]
        result.name, result.type, result.shape = f"{value.name}_before_{slot}", value.type, value.shape
        node.replace_input_with(slot, result)

    return change


def set_numbers(slot: int, numbers: np.ndarray) -> Change:
    """Give an input that is a weight or a constant other numbers of the same type and shape."""

    def change(node: ir.Node) -> None:
        value = node.inputs[slot]
        assert value is not None and value.const_value is not None
        value.const_value = ir.Tensor(np.asarray(numbers, order="C"), dtype=value.dtype, name=value.name)

    return change


def _insert(node: ir.Node, op: str, inputs: list[ir.Value], output: ir.Value, **attributes: Any) -> ir.Value:
    """Put a node behind another one, and let what reads an output read the new node's."""
    graph = node.graph
    assert graph is not None
    last = output.producer() or node
    made = ir.node(op, inputs, attributes, name=f"{last.name}_{op.lower()}")
    result = made.outputs[0]
    result.name, result.type, result.shape = f"{output.name}_{op.lower()}", output.type, output.shape
    uses = [use for use in output.uses() if use.node is not made]
    graph.insert_after(last, made)
    for use in uses:
        use.node.replace_input_with(use.idx, result)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = result
            result.name, output.name = output.name, f"{output.name}_kept"
    return result


# --- what conditions are made of --------------------------------------------------------------------------------------


def numbers_of(node: Match, slot: int) -> np.ndarray | None:
    """The numbers of an input that is a weight or a constant."""
    tensor = stored(node.input(slot))
    return None if tensor is None else tensor.numpy()


def weight_of(node: Match, slot: int) -> np.ndarray | None:
    """The numbers of an input that is a float weight, no constant of one number."""
    value = node.input(slot)
    numbers = numbers_of(node, slot)
    if value is None or numbers is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    return numbers if numbers.size > 1 or traits.kind(value) != "constant" else None


def is_float(node: Match, slot: int = 0) -> bool:
    value = node.input(slot)
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()
