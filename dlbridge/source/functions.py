"""Functions of the file: the bodies of If, Loop and Scan, and stand-ins for what has no rule (``--partial``)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import onnx_ir as ir

from dlbridge.errors import DlbridgeWarning
from dlbridge.ops import in_training, stand_ins
from dlbridge.ops.keys import op_key
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.bodies import plain_assignments, returned
from dlbridge.source.definitions import Line, Written
from dlbridge.source.emission import emit_all, returned_values
from dlbridge.source.names import Names, identifier, last_word
from dlbridge.source.op import Emit, Function, Op, Rules
from dlbridge.source.tree.code import Code, call
from dlbridge.source.tree.expr import Items, Var
from dlbridge.source.tree.statements import Class, Def, Return
from dlbridge.source.variables import hint, name_values

#: (name, node, what to say of it) -> (what is called, a function or class that raises).
StandIn = Callable[[str, ir.Node, list[str]], tuple[Code, Def | Class]]


class Functions:
    """Writes subgraphs, and stand-ins.

    Attributes:
        written: The functions written so far, each after those that it calls.
        partial: Whether what has no rule gets a stand-in, not an error.
        stand_ins: The name of each stand-in, and what it stands for.
    """

    def __init__(
        self,
        rules: Rules,
        arithmetic: Arithmetic,
        to_tensor: Callable[[Elements, ir.Value], Code],
        names: Names,
        stand_in: StandIn,
        partial: bool = False,
    ) -> None:
        self.written: list[Def | Class] = []
        self.partial = partial
        self._stand_in = stand_in
        self._called: dict[tuple, Code] = {}
        self.stand_ins: dict[str, str] = {}
        self._emit = (rules, arithmetic, to_tensor)
        self._names = names

    def write(self, graph: ir.Graph, name: str, as_tuple: bool) -> Function:
        """Write a subgraph as a function of its inputs and of the values around it that it reads.

        Args:
            graph: The subgraph.
            name: The name that the function should have.
            as_tuple: Whether one output is returned as a tuple too.
        """
        _tell_of_training(graph)
        emits, returned = emit_all(graph, *self._emit, self, functional=True)
        results = returned_values(returned)
        inside = {*graph.inputs, *(v for node in emits for v in node.outputs)}
        read = [v for emit in emits.values() for v in emit.code.values()] + results
        captured = list(dict.fromkeys(v for v in read if v not in inside))
        name = self._names.fresh(identifier(name, "body"))
        lines = [Line(list(node.outputs), emit.code, emit.targets, hint(node)) for node, emit in emits.items()]
        block = Block("", list(emits), [*graph.inputs, *captured], results)
        self.written.append(self._function(name, Written(block, [], lines), returned, as_tuple))
        return Function(name, captured)

    def takes(self, node: ir.Node) -> bool:
        """Whether a node is written as a stand-in, for want of a rule."""
        return node.domain == stand_ins.DOMAIN or (self.partial and not self._emit[0].has(node))

    def stand_in(self, op: Op, why: str = "") -> Emit:
        """A call of a function to be filled in, which raises; equal ones share it."""
        inputs = [value for value in op.node.inputs if value is not None]
        key = (op_key(op.node), stand_ins.note(op.node), why, tuple(_type(v) for v in (*inputs, *op.node.outputs)))
        if key not in self._called:
            name = self._names.fresh(identifier(op.node.op_type.lower()))
            about = [f"To be filled in: {stand_ins.note(op.node)}.", *([why] if why else [])]
            takes, gives = (", ".join(map(_type, values)) for values in (inputs, op.node.outputs))
            about += [f"Takes {takes}.", f"Gives {gives}."]
            self._called[key], written = self._stand_in(name, op.node, about)
            self.stand_ins[written.name] = stand_ins.note(op.node)
            self.written.append(written)
        return Emit(call(self._called[key], *(op[i] for i, v in enumerate(op.node.inputs) if v is not None)))

    def _function(self, name: str, written: Written, results: list[ir.Value | Code], as_tuple: bool) -> Def:
        taken = Names(*self._names.taken)
        inputs = {v: taken.fresh(identifier(last_word(v.name or "x"))) for v in written.block.inputs}
        names = name_values(written, inputs, reserved=self._names.taken)
        result = returned(results, lambda v: Var(names[v]))
        result = Items("(", (result,)) if as_tuple and len(results) == 1 else result
        return Def(name, tuple(inputs.values()), (*plain_assignments(written, names), Return(result)))


def _tell_of_training(graph: ir.Graph) -> None:
    """Warn of nodes that do something else in training: that takes a layer, and none can live in a function."""
    lost = [f"{node.op_type} {node.name}" for node in graph if in_training.acts_otherwise(node)]
    if lost:
        what = f"not kept in the body of a branch or loop, as it acts in training alone: {', '.join(lost)}"
        warnings.warn(what, DlbridgeWarning, stacklevel=2)


def _type(value: ir.Value) -> str:
    dtype = value.dtype.numpy().name if value.dtype is not None else "?"
    return f"{dtype}{value.shape}" if value.shape is not None else dtype
