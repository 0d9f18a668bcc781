"""What the rules of ``lift`` are made of: the registry, ways to look at a graph, ways to change it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import op_key

#: Key of ``node.meta``: the path that a node would have, were no other in its way.
WANTED_PATH = "dlbridge.wanted_path"
#: Key of ``graph.meta``: the kinds of the initializers are known, so that a constant is no weight of a layer.
KINDS_KNOWN = "dlbridge.kinds_known"
#: Key of ``graph.meta``: the exporter has folded some layers into others, so that no weight need stay as it is.
WEIGHTS_FOLDED = "dlbridge.weights_folded"

Change = Callable[[np.ndarray], np.ndarray]


class Lifter:
    """A graph while its patterns are raised: puts new nodes in the place of old ones and keeps names unique."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._nodes = {node.name for node in graph.all_nodes()}
        self._values = {v.name for node in graph.all_nodes() for v in node.outputs}
        self._values |= {v.name for v in graph.inputs} | set(graph.initializers)
        self._changed: dict[tuple[ir.Value, Change], ir.Value] = {}

    def replace(
        self,
        old: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        path: str | None = None,
        absorbs: Sequence[ir.Node] = (),
    ) -> bool:
        """Put one node in the place of ``old``, whose first output it takes over; True, for rules to return.

        What else the pattern was made of is dead code then; those of it whose names are wanted are ``absorbs``. The
        node is named ``path`` when that is free, else as ``old`` was.
        """
        output = old.outputs[0]
        new = ir.node(op_type, inputs, attributes or {}, domain=domain)
        new.metadata_props.update(old.metadata_props)
        new.meta.update(old.meta)
        old.graph.insert_before(old, new)
        made = new.outputs[0]
        made.type, made.shape = output.type, output.shape
        ir.convenience.replace_all_uses_with(output, made, replace_graph_outputs=True)
        made.name, output.name = output.name, None
        old.graph.remove(old, safe=True)
        for node in absorbs:
            if node.graph is not None and not any(v.uses() for v in node.outputs):
                node.graph.remove(node, safe=True)
                self._nodes.discard(node.name)
        self._nodes.discard(old.name)
        if path is None and traits.is_anonymous(old):
            old.name = ".".join(filter(None, (traits.scope(old), op_type.lower())))
            new.meta[WANTED_PATH] = old.name
        new.name = self._name(path, old.name)
        if new.name == path:
            new.metadata_props.pop(traits.ANONYMOUS, None)
        return True

    def op(self, before: ir.Node, op_type: str, what: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
        """The output of a new, unnamed node before another."""
        name = self._name(f"{before.name}_{what}", None)
        new = ir.node(op_type, inputs, attributes, name=name)
        new.metadata_props[traits.ANONYMOUS] = "true"
        if traits.CALLS in before.metadata_props:
            new.metadata_props[traits.CALLS] = before.metadata_props[traits.CALLS]
        new.outputs[0].name = self._fresh(name)
        new.outputs[0].type = inputs[0].type
        before.graph.insert_before(before, new)
        return new.outputs[0]

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """A new constant initializer."""
        return self._add(name, ir.tensor(array), "constant")

    def weight(
        self,
        value: ir.Value,
        name: str,
        change: Change | None = None,
        shape: Sequence[int] = (),
        kind: traits.Kind = "parameter",
    ) -> ir.Value:
        """An initializer as a layer wants it: of that kind, named, its numbers changed when they are read.

        A weight's own name stays. Layers that share a weight share what it is changed to.

        Args:
            value: The initializer.
            name: Its name where it is a constant still; a number is added when the name is taken.
            change: What makes the layer's array of the file's, lazily; None when it is right as it is.
            shape: The sizes after ``change``.
            kind: What a constant becomes.
        """
        was = traits.kind(value)
        if change is None:
            if was == "constant":
                traits.set_kind(value, kind)
                value.name = self._fresh(name)
            return value
        if (value, change) not in self._changed:
            tensor = value.const_value
            if was != "constant":  # the changed one takes over; this one goes when nobody reads it any more
                name, kind = value.name, was
                value.name = self._fresh(f"{name}.stored")
                self._values.discard(name)
                traits.set_kind(value, "constant")
            read = functools.partial(_changed_tensor, tensor, change)
            lazy = ir.LazyTensor(read, dtype=tensor.dtype, shape=ir.Shape(shape), name=name)
            self._changed[value, change] = self._add(name, lazy, kind)
        return self._changed[value, change]

    def _add(self, name: str, tensor: ir.TensorProtocol, kind: traits.Kind) -> ir.Value:
        value = ir.Value(name=self._fresh(name), type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape))
        value.const_value = tensor
        traits.set_kind(value, kind)
        self.graph.register_initializer(value)
        return value

    def _fresh(self, name: str) -> str:
        fresh, number = name, 0
        while fresh in self._values:
            number += 1
            fresh = f"{name}_{number}"
        self._values.add(fresh)
        return fresh

    def _name(self, path: str | None, otherwise: str | None) -> str:
        for name in (path, otherwise):
            if name and name not in self._nodes:
                self._nodes.add(name)
                return name
        stem, number = path or otherwise or "node", 1
        while f"{stem}_{number}" in self._nodes:
            number += 1
        self._nodes.add(f"{stem}_{number}")
        return f"{stem}_{number}"


def _changed_tensor(tensor: ir.TensorProtocol, change: Change) -> ir.Tensor:
    return ir.Tensor(np.ascontiguousarray(change(tensor.numpy())), dtype=tensor.dtype)


Rule = Callable[[ir.Node, Lifter], bool]
RULES: dict[str, list[Rule]] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a rule for patterns that end in one of these ops. It returns whether it changed the graph."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            RULES.setdefault(op_type, []).append(function)
        return function

    return register


# --- looking at a graph -------------------------------------------------------------------------------------------


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is of one of these ops."""
    node = value.producer() if value is not None else None
    return node if node is not None and op_key(node) in op_types else None


def inner(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """As :func:`made_by`, where nothing but the pattern reads the value."""
    node = made_by(value, *op_types)
    return node if node is not None and len(value.uses()) == 1 and not value.is_graph_output() else None


def operands(node: ir.Node, *op_types: str) -> tuple[ir.Node, ir.Value] | None:
    """(the operand of a two-operand node that one of these ops makes, the other operand), whichever way round."""
    for this, other in ((0, 1), (1, 0)):
        made = made_by(node.inputs[this], *op_types)
        if made is not None and node.inputs[other] is not None:
            return made, node.inputs[other]
    return None


def with_scalar(node: ir.Node, number: float | None = None) -> tuple[ir.Value, float] | None:
    """(operand, number) of a two-operand node where one is a constant number (that number, when given)."""
    for this, other in ((0, 1), (1, 0)):
        found = scalar(node.inputs[other])
        if found is not None and (number is None or np.isclose(found, number, rtol=1e-4, atol=0)):
            return node.inputs[this], found
    return None


def array(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initializer."""
    if value is None or not value.is_initializer() or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def is_weight(value: ir.Value | None, rank: int | None = None) -> bool:
    """Whether a value is a float initializer (of that rank)."""
    if value is None or not value.is_initializer() or value.const_value is None or value.is_graph_input():
        return False
    if traits.kind(value) == "constant" and value.graph is not None and value.graph.meta.get(KINDS_KNOWN):
        return False
    tensor = value.const_value
    return tensor.dtype.is_floating_point() and (rank is None or len(tensor.shape) == rank)


def is_constant(value: ir.Value) -> bool:
    """Whether a value is an initializer that is no weight."""
    return array(value) is not None and traits.kind(value) == "constant"


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant with one element."""
    if value is None or not value.is_initializer() or value.const_value is None or value.const_value.size != 1:
        return None
    return None if traits.kind(value) == "parameter" else float(value.const_value.numpy().reshape(-1)[0])


def ints(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def input_at(node: ir.Node, slot: int) -> ir.Value | None:
    return node.inputs[slot] if slot < len(node.inputs) else None


def rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def sizes(value: ir.Value) -> list[int]:
    """Sizes of an initializer."""
    return [int(size) for size in value.const_value.shape]


def layer_path(node: ir.Node, weight: ir.Value | None = None) -> str:
    """Path of the layer that a pattern is: that of its weight, else the scope that its last node stands in."""
    if weight is not None and traits.kind(weight) != "constant" and weight.name.endswith(".weight"):
        return weight.name.removesuffix(".weight")
    if node.graph is not None and node.graph.meta.get(KINDS_KNOWN):  # of a program whose modules are known
        return node.name
    return (traits.scope(node) or node.name) if traits.is_anonymous(node) else node.name
