"""Looking at a graph: a node that is known to be of an op, with its attributes and inputs by type.

``match(node, "Gather", axis=0)`` is a :class:`Match` where the node is the standard's ``Gather`` (not somebody else's
op of that name) along that axis, else None. Attributes that a node does not state have the defaults of the standard.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.ops.keys import op_key

__all__ = ["Match", "match"]

#: Ops of two operands that give the same when these change places.
_SYMMETRIC = {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Max", "Min", "Mul", "Or", "Xor"}


class Match:
    """A node of a known op.

    Attributes:
        node: The node.
    """

    __slots__ = ("node",)

    def __init__(self, node: ir.Node) -> None:
        self.node = node

    # --- the node -----------------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The op, as :func:`dlbridge.ops.keys.op_key` names it."""
        return op_key(self.node)

    @property
    def name(self) -> str:
        return self.node.name or ""

    @property
    def graph(self) -> ir.Graph | ir.Function:
        """What the node stands in."""
        graph = self.node.graph
        if graph is None:
            raise ValueError(f"the node {self.node.name} stands in no graph")
        return graph

    def is_op(self, *keys: str) -> bool:
        return self.key in keys

    # --- outputs ------------------------------------------------------------------------------------------------------

    @property
    def output(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def is_read(self, index: int) -> bool:
        """Whether the node has that output and something reads it."""
        return index < len(self.node.outputs) and is_read(self.node.outputs[index])

    # --- attributes ---------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the node itself states an attribute."""
        return name in self.node.attributes

    def get(self, name: str, default: Any = None) -> Any:
        """The value that the node itself states, else ``default``: for ops of an opset with other defaults."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def attribute(self, name: str) -> Any:
        """The value that the node states, else the standard's default; None where there is neither."""
        attribute = self.node.attributes.get(name)
        return standard_default(self.key, name) if attribute is None else attribute.value

    def attributes(self, *, without: Sequence[str] = ()) -> dict[str, ir.Attr]:
        """The attributes that the node itself states, to make another node with the same ones."""
        return {name: a for name, a in self.node.attributes.items() if name not in without}

    def integer(self, name: str) -> int:
        return int(self._needed(name))

    def number(self, name: str) -> float:
        return float(self._needed(name))

    def text(self, name: str) -> str:
        return str(self._needed(name))

    def ints(self, name: str) -> list[int] | None:
        """A list of integers; None where the node states none and the standard has no default."""
        found = self.attribute(name)
        return None if found is None else [int(i) for i in found]

    def _needed(self, name: str) -> Any:
        found = self.attribute(name)
        if found is None:
            raise ValueError(f"{self.key} {self.name} has no '{name}', and the standard no default for it")
        return found

    # --- inputs -------------------------------------------------------------------------------------------------------

    def input(self, slot: int) -> ir.Value | None:
        """An input; None where it is left out."""
        return input_at(self.node, slot)

    def operand(self, slot: int) -> ir.Value:
        """An input that the op cannot do without."""
        value = self.input(slot)
        if value is None:
            raise ValueError(f"{self.key} {self.name} has no input {slot}")
        return value

    @property
    def operands(self) -> list[ir.Value]:
        """The inputs that are given."""
        return [value for value in self.node.inputs if value is not None]

    def orders(self) -> list[tuple[ir.Value, ir.Value]]:
        """The two operands, both ways round where the op gives the same for both; none for another number of them."""
        if len(self.node.inputs) != 2:
            return []
        first, second = self.operand(0), self.operand(1)
        return [(first, second), (second, first)] if self.key in _SYMMETRIC else [(first, second)]

    def rank(self, slot: int = 0) -> int | None:
        return rank(self.input(slot))

    def static_size(self, slot: int, axis: int) -> int | None:
        """The size of an axis of an input, where it is a known number."""
        return static_size(self.input(slot), axis)

    def constant_array(self, slot: int) -> np.ndarray | None:
        """The numbers of an input that is a constant (no parameter, no buffer)."""
        tensor = constant(self.input(slot))
        return None if tensor is None else tensor.numpy()

    def constant_ints(self, slot: int) -> list[int] | None:
        """The integers of an input that is a constant, in order."""
        return constant_ints(self.input(slot))

    def constant_scalar(self, slot: int) -> float | None:
        """The number of an input that is a constant of one element."""
        numbers = self.constant_array(slot)
        return None if numbers is None or numbers.size != 1 else float(numbers.reshape(-1)[0])


@functools.cache
def standard_default(key: str, name: str) -> Any:
    """The default of an attribute of an op in memory; None where there is none."""
    if key in extension.EXTENSION_OPS:
        found = extension.function(key).attributes.get(name)
        return None if found is None else found.value
    if not onnx.defs.has(key, max_inclusive_version=traits.IR_OPSET):
        return None
    schema = onnx.defs.get_schema(key, traits.IR_OPSET, "")
    formal = schema.attributes.get(name)
    if formal is None or not formal.default_value.name:
        return None
    return ir.from_proto(formal.default_value).value


# --- finding nodes ----------------------------------------------------------------------------------------------------


def match(node: ir.Node | None, *keys: str, **attributes: Any) -> Match | None:
    """A node of one of these ops, whose attributes have these values."""
    if node is None or (keys and op_key(node) not in keys):
        return None
    found = Match(node)
    for name, wanted in attributes.items():
        value = found.attribute(name)
        value = list(value) if isinstance(value, tuple) else value
        if value != wanted:
            return None
    return found


def producer(value: ir.Value | None, *keys: str, **attributes: Any) -> Match | None:
    """The node that makes a value, if it is of one of these ops."""
    return None if value is None else match(value.producer(), *keys, **attributes)


def sole_producer(value: ir.Value | None, *keys: str, **attributes: Any) -> Match | None:
    """As :func:`producer`, where one place alone reads the value."""
    return producer(value, *keys, **attributes) if value is not None and is_read_once(value) else None


def origins(value: ir.Value, passes_on: Callable[[ir.Node], bool]) -> Iterator[ir.Value]:
    """Yield the values that a value is computed from, each once: itself, the operands of its node, and so on.

    Args:
        value: The value.
        passes_on: Whether to go on to the operands of a node.
    """
    pending, seen = [value], {value}
    while pending:
        each = pending.pop()
        yield each
        maker = each.producer()
        if maker is None or not passes_on(maker):
            continue
        for operand in maker.inputs:
            if operand is not None and operand not in seen:
                seen.add(operand)
                pending.append(operand)


def is_read(value: ir.Value) -> bool:
    """Whether anything reads a value: a node, or whoever runs the model."""
    return bool(value.uses()) or value.is_graph_output()


def is_read_once(value: ir.Value) -> bool:
    """Whether one input of one node is all that reads a value."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def input_at(node: ir.Node, slot: int) -> ir.Value | None:
    """An input of a node; None where it is left out."""
    return node.inputs[slot] if slot < len(node.inputs) else None


def subgraphs(attribute: ir.Attr) -> list[ir.Graph]:
    """The graphs that an attribute holds."""
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []


# --- looking at values ------------------------------------------------------------------------------------------------


def stored(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that a caller cannot replace; None of any other value."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a value that is a constant (never that of a parameter or buffer), else None."""
    tensor = stored(value)
    return tensor if value is not None and traits.kind(value) == "constant" else None


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant, in order."""
    tensor = constant(value)
    return None if tensor is None else [int(i) for i in tensor.numpy().reshape(-1)]


def rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def static_size(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis, where it is a known number."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def static_shape(value: ir.Value | None) -> list[int] | None:
    """The sizes of all axes, where they are known numbers."""
    if value is None or value.shape is None:
        return None
    sizes = [size for size in value.shape if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) else None


def dtype_of(value: ir.Value) -> ir.DataType:
    """The element type of a value in a graph whose types are inferred."""
    if value.dtype is None:
        raise ValueError(f"the type of {value.name} has not been inferred")
    return value.dtype


def permutation(turn: Match) -> list[int] | None:
    """The permutation of a Transpose, which reverses the axes where it states none; None where their number is open."""
    stated = turn.ints("perm")
    if stated is not None:
        return stated
    size = turn.rank()
    return None if size is None else list(reversed(range(size)))
