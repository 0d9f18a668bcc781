"""What the rules of ``lift`` use: their registry, questions about operands and weights, and how a layer is placed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.elementwise import UNARY_OPS
from dlbridge.passes.matching import Match, constant, producer, stored
from dlbridge.passes.rewriter import Rewriter

#: Key of ``node.meta``: the path that a node would have if no other node had it.
WANTED_PATH = "dlbridge.wanted_path"
#: Key of ``graph.meta``: the kinds of the initializers are known, so that a constant is no weight of a layer.
KINDS_KNOWN = "dlbridge.kinds_known"
#: Key of ``graph.meta``: the exporter has folded some layers into others, so that no weight need stay as it is.
WEIGHTS_FOLDED = "dlbridge.weights_folded"

Change = Callable[[np.ndarray], np.ndarray]


class Lifter(Rewriter):
    """A rewriter that puts layers in the place of patterns, and changes weights to what the layers take."""

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__(graph)
        self._changed_weights: dict[tuple[ir.Value, Change], ir.Value] = {}

    def become(
        self,
        pattern: Match,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        path: str | None = None,
        absorbs: Sequence[Match] = (),
    ) -> bool:
        """Replace a pattern by a layer; return whether that was done, which the rule returns in turn.

        An elementwise op of one tensor is not put where a constant of the pattern has given its result more axes than
        the input has.

        Args:
            pattern: The node that the pattern ends in. The rest of the pattern is dead code then.
            op_type: The layer.
            inputs: Its inputs.
            attributes: Its attributes.
            domain: Its domain.
            path: The layer's own name, which it has where that is free; else it is named as the last node was.
            absorbs: Nodes of the pattern whose names become free, so that the layer can have one.
        """
        old = pattern.node
        if op_type in UNARY_OPS and inputs[0] is not None and has_more_axes(old.outputs[0], inputs[0]):
            return self.no(pattern, "a constant has more axes than the input")
        name, wanted = old.name, None
        if path is None and traits.is_anonymous(old):
            name = wanted = ".".join(filter(None, (traits.scope(old), op_type.lower())))
        new = self.replace(old, op_type, inputs, attributes, domain=domain)
        self.erase_unused([match.node for match in absorbs])
        if wanted is not None:
            new.meta[WANTED_PATH] = wanted
        self._nodes.discard(new.name or "")
        new.name = self._layer_name(path, name)
        if new.name == path:
            new.metadata_props.pop(traits.ANONYMOUS, None)
        return True

    def _layer_name(self, path: str | None, otherwise: str | None) -> str:
        """The first of these names that is free, else the first of them with a number."""
        for name in (path, otherwise):
            if name and name not in self._nodes:
                return self.node_name(name)
        return self.node_name(path or otherwise or "node")

    def op(self, before: Match, op_type: str, what: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
        """The output of a new node before another, of the dtype of its first input."""
        made = self.insert(before.node, op_type, what, inputs, attributes).outputs[0]
        made.type = inputs[0].type
        return made

    def weight(
        self,
        value: ir.Value,
        name: str,
        change: Change | None = None,
        shape: Sequence[int] = (),
        kind: traits.Kind = "parameter",
    ) -> ir.Value:
        """The initializer that a layer needs, made from one of the pattern; its numbers are changed when they are read.

        A weight's own name stays. Layers that share a weight share what it is changed to.

        Args:
            value: The initializer.
            name: Its name if it was a constant; a number is added if the name is taken.
            change: Computes the layer's array from the file's, when that is read; None if they are the same.
            shape: The sizes after ``change``.
            kind: What a constant becomes.
        """
        was = traits.kind(value)
        if change is None:
            if was == "constant":
                traits.set_kind(value, kind)
                value.name = self.value_name(name)
            return value
        if (value, change) not in self._changed_weights:
            tensor = tensor_of(value)
            if was != "constant":  # the changed one takes over; this one goes when nobody reads it any more
                name, kind = value.name or name, was
                value.name = self.value_name(f"{name}.stored")
                self._values.discard(name)
                traits.set_kind(value, "constant")
            read = functools.partial(_changed_tensor, tensor, change)
            lazy = ir.LazyTensor(read, dtype=tensor.dtype, shape=ir.Shape(shape), name=name)
            self._changed_weights[value, change] = self.add_initializer(self.value_name(name), lazy, kind)
        return self._changed_weights[value, change]


def _changed_tensor(tensor: ir.TensorProtocol, change: Change) -> ir.Tensor:
    return ir.Tensor(np.asarray(change(tensor.numpy()), order="C"), dtype=tensor.dtype)


Rule = Callable[[Match, Lifter], bool]
RULES: dict[str, list[Rule]] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a rule for patterns that end in one of these ops. It returns whether it changed the graph."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            RULES.setdefault(op_type, []).append(function)
        return function

    return register


# --- operands ---------------------------------------------------------------------------------------------------------


def operands(node: Match, *op_types: str) -> tuple[Match, ir.Value] | None:
    """(the operand of a two-operand node that one of these ops makes, the other operand).

    Of a sum or a product it may be either operand; of a difference or a quotient it is the first.
    """
    for this, other in node.orders():
        made = producer(this, *op_types)
        if made is not None:
            return made, other
    return None


def with_scalar(node: Match | None, number: float | None = None) -> tuple[ir.Value, float] | None:
    """(operand, number) of a two-operand node where one is a constant number (that number, when given).

    The number may be either operand of a sum or a product, and the second one of a difference or a quotient. A constant
    of one element that gives the result more axes than the operand has is no number. A fraction is found as it is in a
    narrow type; a whole number is itself in every type.
    """
    rounding = 0.0 if number is None or float(number).is_integer() else 1e-4
    for this, other in node.orders() if node is not None else ():
        found = None if has_more_axes(other, this) else scalar(other)
        if found is not None and (number is None or np.isclose(found, number, rtol=rounding, atol=0)):
            return this, found
    return None


def has_more_axes(value: ir.Value, than: ir.Value) -> bool:
    """Whether a value is known to have more axes than another."""
    return value.shape is not None and than.shape is not None and len(value.shape) > len(than.shape)


# --- weights and numbers ----------------------------------------------------------------------------------------------


def tensor_of(weight: ir.Value) -> ir.TensorProtocol:
    """The tensor of an initializer."""
    if weight.const_value is None:
        raise ValueError(f"{weight.name} is no initializer")
    return weight.const_value


def is_weight(value: ir.Value | None, rank: int | None = None) -> bool:
    """Whether a value is a float initializer (of that rank)."""
    tensor = stored(value)
    if value is None or tensor is None:
        return False
    kinds_known = value.graph is not None and value.graph.meta.get(KINDS_KNOWN)
    if kinds_known and traits.kind(value) == "constant":
        return False
    return tensor.dtype.is_floating_point() and (rank is None or len(tensor.shape) == rank)


def all_equal(value: ir.Value | None, number: float) -> bool:
    """Whether a value is a constant all of whose elements are this number."""
    tensor = constant(value)
    return tensor is not None and bool((tensor.numpy() == number).all())


def scalar(value: ir.Value | None) -> float | None:
    """The number of an initializer with one element that does not train."""
    if value is None or not value.is_initializer() or value.const_value is None or value.const_value.size != 1:
        return None
    return None if traits.kind(value) == "parameter" else float(value.const_value.numpy().reshape(-1)[0])


def ints(value: ir.Value | None) -> list[int] | None:
    """The integers of an initializer."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]


def sizes(weight: ir.Value) -> list[int]:
    """Sizes of an initializer."""
    return [int(size) for size in tensor_of(weight).shape.numpy()]


def layer_path(node: Match, weight: ir.Value | None = None) -> str:
    """Path of the layer that a pattern is: that of its weight, else the scope that its last node stands in."""
    name = "" if weight is None else weight.name or ""
    if weight is not None and traits.kind(weight) != "constant" and name.endswith(".weight"):
        return name.removesuffix(".weight")
    if node.graph.meta.get(KINDS_KNOWN):  # of a program whose modules are known
        return node.name
    scope = traits.scope(node.node)
    return scope if scope and traits.is_anonymous(node.node) else node.name
