"""Reads the graph of an exported program: applies a reading rule to each fx node, which makes ``ir`` nodes."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import sympy
import torch

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.arrays import to_array
from dlbridge.frameworks.pytorch.compat import HigherOrderOperator, OpOverload, pytree
from dlbridge.frameworks.pytorch.export.author_frames import parameters
from dlbridge.frameworks.pytorch.export.training_mode import TrainingMode
from dlbridge.frameworks.pytorch.fx import decompose
from dlbridge.frameworks.pytorch.fx.schema import (
    attribute,
    base_of,
    is_complex,
    is_number_along_axis,
    is_size,
    modules_around,
    mutates,
    needed,
    nothing,
    plain_name,
    reads_tensor,
    repeats_around,
    sizes_in,
    source_line,
)
from dlbridge.frameworks.pytorch.fx.tensors import DTYPES, is_float, rank, size_of, sizes_of, with_sizes
from dlbridge.frameworks.pytorch.graph import control, symbols
from dlbridge.frameworks.pytorch.graph.author_names import Said
from dlbridge.frameworks.pytorch.graph.bindings import Binding, Bindings
from dlbridge.frameworks.pytorch.graph.computed import Computed
from dlbridge.frameworks.pytorch.graph.made_weights import MadeWeights
from dlbridge.frameworks.pytorch.graph.reading import COMPLEX_RULES, Op, rule_of
from dlbridge.frameworks.pytorch.graph.scopes import Frame, dotted
from dlbridge.ops import stand_ins, traits
from dlbridge.ops.formulas import arithmetic_of

#: Arguments that say where and how a tensor lies in memory.
_PLACE = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"})
#: Higher-order ops that run a graph as it stands -> position of the graph among the arguments.
_INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4, "tag_activation_checkpoint": 0}
#: How deep decompositions may be nested.
_MAX_DEPTH = 8


@dataclass
class Missing:
    """An op without a rule, and one place where it is called."""

    op: str
    site: str


class Program:
    """The graph that is being made of one exported program.

    Attributes:
        nodes: The nodes made so far, in order.
        frames: Node -> where it is located.
        constants: The constants that the nodes read.
        made_weights: The weights that are made of others.
        missing: Ops without a rule.
        partial: Whether these become stand-ins, whose code a person writes.
        frame: The modules around the call that is being read.
        site: Where that is located: module and source line.
        said: What the author's code says of the results of calls, where that is known.
        training: What is known of the module in training mode.
        computed: What PyTorch computes of constants.
    """

    def __init__(self, partial: bool = False, training: TrainingMode | None = None) -> None:
        self.partial = partial
        self.said: Mapping[torch.fx.Node, Said] = {}
        self.training = training or TrainingMode()
        self.nodes: list[ir.Node] = []
        self.frames: dict[ir.Node, Frame] = {}
        self.constants: list[ir.Value] = []
        self.made_weights = MadeWeights()
        self.missing: list[Missing] = []
        self.refused: list[UnsupportedOpError] = []
        self.symbols = symbols.Symbols()
        self.computed = Computed()
        self.inner = itertools.count()  # values of bodies, for their names
        self.frame = Frame(())
        self._said: Said | None = None
        self.site = ""
        self._depth = 0

    # --- for the rules ---------------------------------------------------------------------------------------------

    def add(self, node: ir.Node, op: Op) -> None:
        self.nodes.append(node)
        if self._said is not None and self._said.name:
            node.metadata_props[traits.TOWARDS if self._said.is_part else traits.VARIABLE] = self._said.name
        self.frames[node] = self.frame

    def constant(self, array: np.ndarray) -> ir.Value:
        tensor = ir.tensor(array)
        name = f"constant_{len(self.constants)}"
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.constants.append(value)
        return with_sizes(value, list(array.shape))

    # --- inner graphs ----------------------------------------------------------------------------------------------

    @contextmanager
    def body(self) -> Iterator[list[ir.Node]]:
        """Within the block, nodes go into the body of a branch or loop; sizes computed there are unknown outside."""
        around, known = self.nodes, self.symbols
        self.nodes, self.symbols = [], known.copy()
        try:
            yield self.nodes
        finally:
            self.nodes, self.symbols = around, known

    def run_inner(self, graph_module: torch.fx.GraphModule, arguments: Sequence[Any]) -> Any:
        """Translate an inner graph, all of whose nodes are located where the op is that it belongs to."""
        self._depth += 1
        try:
            return self.run(graph_module, arguments)
        finally:
            self._depth -= 1

    # --- the walk --------------------------------------------------------------------------------------------------

    def run(self, graph_module: torch.fx.GraphModule, arguments: Sequence[Any]) -> Any:
        """Translate a graph, and return what it returns, with values in place of its nodes.

        Args:
            graph_module: The graph.
            arguments: What its placeholders stand for, in order.
        """
        env = Bindings(self)
        given = iter(arguments)
        nodes = list(graph_module.graph.nodes)
        tracked = any(mutates(n) for n in nodes)
        live = needed(graph_module.graph)
        result: Any = None
        for node in nodes:
            match node.op:
                case "placeholder":
                    env[node] = Binding(next(given))
                    self.note_names(node, env.read(node))
                case "get_attr":
                    env[node] = Binding(self._attribute(graph_module, node))
                case "call_function" if node in live:
                    self._enter(node)
                    self._call(node, env, tracked)
                case "output":
                    result = torch.fx.map_arg(node.args[0], env.read)
        return result

    def _enter(self, node: torch.fx.Node) -> None:
        if self._depth:
            return  # the ops of a decomposition are located where the decomposed op is
        self._said = self.said.get(node)
        stack = node.meta.get("nn_module_stack") or {}
        if any(path.startswith("_empty_nn_module") for path, _ in stack.values()):
            stack = {}
        self.frame = Frame(modules_around(stack), repeats_around(stack))
        line = source_line(node.meta.get("stack_trace"))
        self.site = f"{self.frame.path or 'the model'}{f' ({line})' if line else ''}"

    def _attribute(self, graph_module: torch.fx.GraphModule, node: torch.fx.Node) -> Any:
        found = attribute(graph_module, node)
        if not isinstance(found, torch.Tensor):
            return found
        value = self.constant(to_array(torch.view_as_real(found) if found.is_complex() else found))
        value.meta["complex"] = found.is_complex()
        self.computed.note(value, found)
        return with_sizes(value, [int(s) for s in found.shape])

    def _call(self, node: torch.fx.Node, env: Bindings, tracked: bool) -> None:
        target, val = node.target, node.meta.get("val")
        if target is operator.getitem:
            self._bind_item(node, env, tracked)
        elif isinstance(target, HigherOrderOperator):
            env[node] = Binding(self._higher_order(node, env))
        elif is_size(val) and not reads_tensor(node):
            return  # arithmetic on sizes: read from meta where it is used
        elif val is None:
            return  # an assertion
        elif isinstance(target, OpOverload):
            self._call_aten(node, target, env, tracked)
        else:
            self.missing.append(Missing(str(target), self.site))
            env[node] = Binding(None)

    def _call_aten(self, node: torch.fx.Node, target: Any, env: Bindings, tracked: bool) -> None:
        value = self.apply(node, env)
        val = node.meta["val"]
        if is_size(val):  # item(): a size that is computed
            if isinstance(value, ir.Value) and isinstance(size_of(val), sympy.Symbol):
                self.symbols.bind(size_of(val), value)
            return
        self.note_names(node, value)
        if not tracked:
            env[node] = Binding(value)
            return
        if mutates(node) and value is not None:
            written = env[node.args[0]]  # type: ignore[index]
            env.write(written, value)
            env[node] = Binding(value, written, node)
            return
        base = base_of(node)
        env[node] = Binding(value, env[base] if base is not None else None, node)

    def note_names(self, node: torch.fx.Node, value: Any) -> None:
        """Note what modules call a value that they are given, or given back, and a tensor that their code makes."""
        if not isinstance(value, ir.Value):
            return
        for path in parameters(node):
            self.symbols.note_given(path, value)
        said = self.said.get(node)
        if said is None:
            return
        if value.const_value is None:
            traits.set_called(value, {dotted(path): name for path, name in said.elsewhere.items()})
        elif value.meta.get("lifted") and said.name:
            value.metadata_props.setdefault(traits.VARIABLE, said.name)

    def _bind_item(self, node: torch.fx.Node, env: Bindings, tracked: bool) -> None:
        source = node.args[0]
        value = env.read(source)[node.args[1]]  # type: ignore[index]
        said = self.said.get(node)
        if said is not None and said.name and isinstance(value, ir.Value):  # one of several results
            value.metadata_props[traits.VARIABLE] = said.name
        self.note_names(node, value)
        base = env[source].base if tracked else None  # type: ignore[index]
        env[node] = Binding(value, base, node)

    # --- one call --------------------------------------------------------------------------------------------------

    def apply(self, node: torch.fx.Node, env: Bindings) -> Any:
        """Apply the rule of a call to the present values of its arguments."""
        target: Any = node.target
        args = torch.fx.map_arg(node.args, env.read)
        kwargs = {k: torch.fx.map_arg(v, env.read) for k, v in node.kwargs.items()}
        args, kwargs = sizes_in(args), {k: sizes_in(v) for k, v in kwargs.items() if k not in _PLACE}
        names = [a.name for a in compat.schema(target).arguments]
        while len(args) and names[len(args) - 1] in _PLACE:
            args = args[:-1]
        val = node.meta["val"]
        if any(v is None for v in env.tensors(node)):
            self.lost(f"{self.site}: {target}")
            return nothing(val)
        tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, ir.Value)]
        for value in tensors:
            self.symbols.note_in_module(self.frame.code, value)
        with_complex = is_complex(val) or any(v.meta.get("complex") for v in tensors)
        rule = COMPLEX_RULES.get(plain_name(target)) if with_complex else rule_of(target)
        op = Op(self, val, tensors, f"{self.site}: {target}", plain_name(target).rpartition(".")[2])
        op.dropped, op.stops = self.training.dropped.get(node, 0.0), node in self.training.stops
        given = args
        number = rule is not None and is_number_along_axis(target, args)
        if number:  # where an op works along an axis, PyTorch accepts a tensor of rank 0 as a vector of one element
            args = [op.unsqueeze(a, [0]) if isinstance(a, ir.Value) and not rank(a) else a for a in args]
        try:
            if self.computed.is_once(given, kwargs):
                return self._typed(self.computed.once(target, given, kwargs, self.frame.path), val)
            if rule is None:
                return self._decomposed(op, node, args, kwargs)
            with arithmetic_of(op):
                made = rule(op, *args, **kwargs)
            if number:
                made = _each(lambda one, fake: op.reshape(one, sizes_of(fake)), made, val)
        except UnsupportedOpError as error:
            if self.partial:
                return self._add_stand_in(target, tensors, val, error.message)
            error.where = error.where or op.site
            self.refused.append(error)
            return nothing(val)
        self.computed.run(target, given, kwargs, val, made)
        return self._typed(made, val)

    def lost(self, site: str) -> None:
        """Report a use of an output that no rule produced, unless its producer has already been reported."""
        if not self.missing and not self.refused:
            why = "reads a further result of an op, which is not computed"
            self.refused.append(UnsupportedOpError(why, where=site))

    def _typed(self, made: Any, val: Any) -> Any:
        """Set the dtypes and sizes of what a rule made to those of PyTorch's fake tensors."""
        if isinstance(val, (list, tuple)):
            return [self._typed(m, v) if m is not None else None for m, v in zip(made, val, strict=False)]
        if isinstance(made, ir.Value) and isinstance(val, torch.Tensor):
            if made.producer() is not None:
                made.dtype = made.dtype or DTYPES[val.dtype]
            if val.dtype.is_complex:
                made.meta["complex"] = True
            self.symbols.note_sizes(with_sizes(made, sizes_of(val)), sizes_of(val))
            self.symbols.note_in_module(self.frame.code, made)
        return made

    def _decomposed(self, op: Op, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        """Read an op without a rule as the ops that PyTorch decomposes it into."""
        target: Any = node.target
        graph_module = decompose.traced(node) if self._depth < _MAX_DEPTH else None
        if graph_module is not None:
            made = self.run_inner(graph_module, op.tensors)
            return self._typed(_each(lambda one, fake: _of_rank(op, one, fake), made, op.val), op.val)
        if self.computed.is_of_weights(target, args, kwargs):
            return self._typed(self.computed.once(target, args, kwargs, self.frame.path), op.val)
        if self.partial:
            return self._add_stand_in(target, op.tensors, op.val)
        self.missing.append(Missing(str(target), self.site))
        return nothing(op.val)

    def _higher_order(self, node: torch.fx.Node, env: Bindings) -> Any:
        name = str(node.target)
        if name in control.RULES:
            args = [torch.fx.map_arg(a, env.read) for a in node.args]
            return self._typed(control.read(self, name, args, node.meta["val"]), node.meta["val"])
        if name not in _INLINED:
            self.missing.append(Missing(name, self.site))
            return nothing(node.meta.get("val"))
        if name == "wrap_with_autocast" and node.args[2]:
            why = "torch.autocast within the model: call the model under it instead, or convert it to the narrow type"
            self.refused.append(UnsupportedOpError(why, where=self.site))
            return nothing(node.meta.get("val"))
        position = _INLINED[name]
        inner = env.read(node.args[position])
        frame, site = self.frame, self.site
        result = self.run(inner, [env.read(a) for a in node.args[position + 1 :]])
        self.frame, self.site = frame, site
        if node not in self.training.stops:
            return result
        stopped = [self._stopped(value) for value in result]
        return self._typed(stopped, node.meta["val"])

    def _stopped(self, value: Any) -> Any:
        """A tensor through which no gradient flows; anything else as it is."""
        if not isinstance(value, ir.Value) or not is_float(value):
            return value
        return Op(self, None, [value], self.site).extension("StopGradient", value)

    def _add_stand_in(self, target: Any, tensors: Sequence[ir.Value], val: Any, why: str = "") -> Any:
        """Add a stand-in for an op that cannot be read, whose code a person will write."""
        fakes = val if isinstance(val, (list, tuple)) else [val]
        types = [(DTYPES[v.dtype], ir.Shape([self.symbols.dim(s) for s in sizes_of(v)])) for v in fakes]
        note = f"{target} at {self.site}{f': {why}' if why else ''}"
        node = stand_ins.stand_in(plain_name(target), tensors, types, note)
        self.nodes.append(node)
        self.frames[node] = self.frame
        return self._typed(list(node.outputs) if isinstance(val, (list, tuple)) else node.outputs[0], val)


def _of_rank(op: Op, made: Any, val: Any) -> Any:
    """Reshape a result to the rank that PyTorch gives it; a decomposition may end in another rank."""
    if not isinstance(made, ir.Value) or not isinstance(val, torch.Tensor) or rank(made) == val.dim():
        return made
    return op.reshape(made, sizes_of(val))


def _each(change: Callable[[Any, Any], Any], made: Any, val: Any) -> Any:
    """What is made of each result and its fake tensor, of one or of several."""
    if isinstance(val, (list, tuple)):
        return [change(one, fake) for one, fake in zip(made, val, strict=False)]
    return change(made, val)
