"""The one way to change a graph: inserts and replaces nodes, adds constants, and keeps names and provenance right.

A pass has one :class:`Rewriter` for the graph that it works on, and a :class:`Site` for the node that a rule looks at.
What is made gets a free name and keeps the provenance of the node that it is made for: the scope, which its name
begins with, and the number of the call of a module. A rule that leaves a node alone may say why (:meth:`Rewriter.no`);
``logging`` shows that at level DEBUG, and :func:`trace` collects it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import unique
from dlbridge.passes.matching import Match, is_read, subgraphs
from dlbridge.passes.refusals import TRACED, Refusal

_LOG = logging.getLogger(__name__)


class Rewriter:
    """Changes a graph and the graphs within it.

    Args:
        graph: A main graph, or a function. Names are unique in all of it.

    Attributes:
        graph: The same.
        changed: Whether anything was changed so far.
        rule: The name of the rule that is looking, for :meth:`no`.
    """

    def __init__(self, graph: ir.Graph | ir.Function) -> None:
        self.graph = graph
        self.changed = False
        self.rule = ""

    def sites(self, *keys: str) -> Iterator[Site]:
        """Yield the nodes of the graph itself that are of these ops, or all where none is named."""
        for node in list(self.graph):
            if not keys or op_key(node) in keys:
                yield Site(node, self)

    # --- names --------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _nodes(self) -> set[str]:
        return {node.name for node in self.graph.all_nodes() if node.name}

    @functools.cached_property
    def _values(self) -> set[str]:
        names = {value.name for node in self.graph.all_nodes() for value in node.outputs}
        for graph in (self.graph, *self.graph.subgraphs()):
            names.update(value.name for value in graph.inputs)
            if isinstance(graph, ir.Graph):
                names.update(graph.initializers)
        return {name for name in names if name}

    def node_name(self, wanted: str) -> str:
        """The name, or with a number that makes it new; it is taken then."""
        return unique(wanted, self._nodes)

    def value_name(self, wanted: str) -> str:
        """The name, or with a number that makes it new; it is taken then."""
        return unique(wanted, self._values)

    def look_again(self) -> None:
        """Forget which names are taken, after nodes have been removed from the graph."""
        vars(self).pop("_nodes", None)
        vars(self).pop("_values", None)

    # --- making -------------------------------------------------------------------------------------------------------

    def insert(
        self,
        place: ir.Node,
        op_type: str,
        what: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: int = 1,
        after: bool = False,
        name: str | None = None,
    ) -> ir.Node:
        """Make a node before another, or after it.

        Args:
            place: The node for whose sake it is made.
            op_type: Its op.
            what: What it is for: behind the name of ``place``, its name.
            inputs: Its inputs.
            attributes: Its attributes.
            domain: The op's domain.
            outputs: How many outputs it has.
            after: Put it after ``place``.
            name: Its name, where that is another one.
        """
        made = ir.node(op_type, inputs, dict(attributes or {}), domain=domain, num_outputs=outputs)
        wanted = name or f"{place.name}_{what}"
        made.name = self.node_name(wanted)
        traits.mark(made, traits.ANONYMOUS)
        if traits.CALLS in place.metadata_props:
            made.metadata_props[traits.CALLS] = place.metadata_props[traits.CALLS]
        for index, value in enumerate(made.outputs):
            value.name = self.value_name(wanted if outputs == 1 else f"{wanted}_{index}")
        graph = Match(place).graph
        if after:
            graph.insert_after(place, made)
        else:
            graph.insert_before(place, made)
        self.changed = True
        return made

    def constant(
        self, name: str, numbers: Any, dtype: ir.DataType = ir.DataType.INT64, *, share: bool = False
    ) -> ir.Value:
        """A new constant initializer of the main graph.

        Args:
            name: Its name; a number is added when the name is taken.
            numbers: A list, or an array.
            dtype: Their type.
            share: Let an initializer of that name with the same numbers serve again.
        """
        array = np.asarray(numbers, dtype.numpy())
        known = self._same(name, array, dtype) if share else None
        if known is not None:
            return known
        fresh = self.value_name(name)
        return self.add_initializer(fresh, ir.Tensor(array, dtype=dtype, name=fresh))

    def add_initializer(self, name: str, tensor: ir.TensorProtocol, kind: traits.Kind | None = None) -> ir.Value:
        """A new initializer of the main graph, under a name that is free; a constant, where no kind is stated."""
        if not isinstance(self.graph, ir.Graph):
            raise ValueError("a function has no initializers")
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()))
        value.const_value = tensor
        if kind is not None:
            traits.set_kind(value, kind)
        self.graph.register_initializer(value)
        self.changed = True
        return value

    def _same(self, name: str, array: np.ndarray, dtype: ir.DataType) -> ir.Value | None:
        """The constant of that name, or of that name with a number, that has the same numbers."""
        initializers = self.graph.initializers if isinstance(self.graph, ir.Graph) else {}
        known, count = initializers.get(name), 0
        while known is not None:
            tensor = known.const_value
            if tensor is not None and tensor.dtype == dtype and np.array_equal(tensor.numpy(), array):
                return known
            count += 1
            known = initializers.get(f"{name}_{count}")
        return None

    def adopt(self, place: ir.Node, nodes: Sequence[ir.Node], prefix: str = "") -> None:
        """Insert nodes of another graph before a node.

        Args:
            place: The node before which they come.
            nodes: The nodes, which stand in no graph.
            prefix: What their names, those of their values, and those inside of them begin with from now on. Names
                that something else has get a number.
        """
        self._rename(nodes, prefix)
        Match(place).graph.insert_before(place, nodes)
        self.changed = True

    def _rename(self, nodes: Sequence[ir.Node] | ir.Graph, prefix: str) -> None:
        for node in nodes:
            node.name = self.node_name(prefix + (node.name or node.outputs[0].name or node.op_type))
            for value in node.outputs:
                value.name = self.value_name(prefix + (value.name or node.op_type))
            for graph in (graph for attribute in node.attributes.values() for graph in subgraphs(attribute)):
                for value in (*graph.inputs, *list(graph.initializers.values())):
                    value.name = self.value_name(f"{prefix}{value.name}")
                self._rename(graph, prefix)

    # --- replacing ----------------------------------------------------------------------------------------------------

    def replace(
        self,
        old: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        name: str | None = None,
    ) -> ir.Node:
        """Put one new node in the place of another, whose first output, metadata and (unless told otherwise) name it
        takes over."""
        new = ir.node(op_type, inputs, dict(attributes or {}), domain=domain)
        new.metadata_props.update(old.metadata_props)
        new.meta.update(old.meta)
        Match(old).graph.insert_before(old, new)
        self.substitute(old.outputs[0], new.outputs[0])
        self.erase(old)
        new.name = self.node_name(name or old.name or op_type.lower())
        return new

    def substitute(self, old: ir.Value, new: ir.Value) -> None:
        """Replace a value by one that was just made, which takes over its type, its readers and its name."""
        new.type, new.shape = old.type, old.shape
        traits.set_called(new, traits.called(old))
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, new.name
        self.changed = True

    def replace_node(self, node: ir.Node, results: Sequence[ir.Value | None]) -> None:
        """Replace the outputs of a node by values, and erase the node.

        Args:
            node: The node.
            results: A value for each output, None for those that nothing reads.
        """
        for old, new in zip(node.outputs, results, strict=False):
            if new is not None and is_read(old):
                self.substitute(old, new)
        self.erase(node)

    def let_stand_for(self, value: ir.Value, others: Sequence[ir.Value]) -> None:
        """Let everything that reads one of the other values read this one, which is equal to them.

        One that is an output of the graph stays, made by an ``Identity``.
        """
        for other in others:
            value.type, value.shape = other.type, other.shape
            maker = other.producer()
            if other.is_graph_output() and maker is not None:
                self.replace(maker, "Identity", [value])
            else:
                other.replace_all_uses_with(value)
                self.changed = True

    def bypass(self, node: ir.Node) -> bool:
        """Let what reads the first output of a node read its first input, and erase the node.

        Returns:
            Whether that was possible: an output of the graph must stay a value of its own name that a node of the same
            graph makes.
        """
        source, output = Match(node).operand(0), node.outputs[0]
        if output.is_graph_output():
            maker = source.producer()
            if maker is None or maker.graph is not node.graph or source.is_graph_output():
                return False
            output.replace_all_uses_with(source, replace_graph_outputs=True)
            source.name, output.name = output.name, source.name
        else:
            output.replace_all_uses_with(source)
        self.erase(node)
        return True

    def erase(self, node: ir.Node) -> None:
        """Remove a node that nothing reads; its name is free then."""
        Match(node).graph.remove(node, safe=True)
        self._nodes.discard(node.name or "")
        self.changed = True

    def erase_unused(self, nodes: Sequence[ir.Node]) -> None:
        """Erase those nodes that nothing reads any more."""
        for node in nodes:
            if node.graph is not None and not any(is_read(value) for value in node.outputs):
                self.erase(node)

    # --- why not ------------------------------------------------------------------------------------------------------

    def no(self, node: Match, why: str) -> Literal[False]:
        """Return False, for a rule that leaves a node alone to return; ``why`` is the condition that does not hold."""
        collected = TRACED.get()
        if collected is not None:
            collected.append(Refusal(self.rule, node.name, why))
        _LOG.debug("%s leaves %s alone: %s", self.rule, node.name, why)
        return False


class Site(Match):
    """A node that a rule rewrites, and the ways to do it.

    Args:
        node: The node.
        rewriter: That of its graph.
    """

    __slots__ = ("rewriter",)

    def __init__(self, node: ir.Node, rewriter: Rewriter) -> None:
        super().__init__(node)
        self.rewriter = rewriter

    # --- the node itself ----------------------------------------------------------------------------------------------

    def take(self, name: str, default: Any = None) -> Any:
        """Remove an attribute and return its value."""
        attribute = self.node.attributes.pop(name, None)
        if attribute is None:
            return default
        self.rewriter.changed = True
        return attribute.value

    def set(self, **attributes: Any) -> None:
        """State attributes."""
        for name, value in attributes.items():
            made = ir.convenience.convert_attribute(name, value)
            self.rewriter.changed |= self.node.attributes.get(name) != made
            self.node.attributes[name] = made

    def set_op(self, op_type: str) -> None:
        """Change the op to another one of its domain."""
        self.node.op_type = op_type
        self.rewriter.changed = True

    def set_form(self, domain: str, **attributes: Any) -> None:
        """Legalise the node: let it be the same op in a form of a writer, with attributes of that form."""
        self.node.domain = domain
        self.set(**attributes)
        self.rewriter.changed = True

    def set_input(self, slot: int, value: ir.Value | None) -> None:
        if slot >= len(self.node.inputs):
            self.node.resize_inputs(slot + 1)
        self.rewriter.changed |= self.node.inputs[slot] is not value
        self.node.replace_input_with(slot, value)

    def set_inputs(self, *values: ir.Value | None) -> None:
        """Give the node these inputs and no others."""
        self.rewriter.changed |= len(values) != len(self.node.inputs)
        self.node.resize_inputs(len(values))
        for slot, value in enumerate(values):
            self.set_input(slot, value)

    # --- nodes beside it ----------------------------------------------------------------------------------------------

    def op(self, op_type: str, what: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """The output of a new node before this one; ``what`` it is becomes part of its name."""
        return self.rewriter.insert(self.node, op_type, what, inputs, attributes).outputs[0]

    def many(
        self, op_type: str, what: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        """The outputs of a new node before this one that has several."""
        return self.rewriter.insert(self.node, op_type, what, inputs, attributes, outputs=outputs).outputs

    def constant(self, what: str, values: Any, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        """The output of a ``Constant`` before this node, which a function may have too: int64, or of another dtype."""
        tensor = ir.tensor(np.asarray(values, dtype=dtype.numpy()), dtype=dtype)
        value = self.op("Constant", what, [], value=tensor)
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(tensor.shape.numpy())
        return value

    def then(self, op_type: str, what: str, more_inputs: Sequence[ir.Value], **attributes: Any) -> None:
        """Put a node behind this one, which takes over the name of the result and its readers."""
        old = self.output
        made = self.rewriter.insert(self.node, op_type, what, [None, *more_inputs], attributes, after=True)
        self.rewriter.substitute(old, made.outputs[0])
        made.replace_input_with(0, old)
        old.shape = None

    # --- its outputs --------------------------------------------------------------------------------------------------

    def replace_output(self, index: int, value: ir.Value) -> None:
        """Let a value take the place and the name of an output."""
        self.rewriter.substitute(self.node.outputs[index], value)

    # --- what is known of its inputs ----------------------------------------------------------------------------------

    def known(self, slot: int) -> np.ndarray | None:
        """The numbers of an input that is an initializer or made by a ``Constant``."""
        value = self.input(slot)
        if value is None or value.is_graph_input():
            return None
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()

    def dtype(self, slot: int = 0) -> ir.DataType:
        """The element type of an input; float32 where it is not known."""
        value = self.input(slot)
        return value.dtype if value is not None and value.dtype is not None else ir.DataType.FLOAT
