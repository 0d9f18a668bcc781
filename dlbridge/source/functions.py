"""Functions of the file: the bodies of If, Loop and Scan, and stand-ins for what has no rule (``--partial``)."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.ops import missing
from dlbridge.ops.keys import op_key
from dlbridge.source import printing
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.code import Code, call
from dlbridge.source.definitions import Line, Written
from dlbridge.source.emission import emit_all, leaving
from dlbridge.source.names import Names, identifier
from dlbridge.source.op import Emit, Function, Op, Rules
from dlbridge.source.statements import indent, plain_assignments
from dlbridge.source.statements import returned as returned_text
from dlbridge.source.variables import hint, name_values

#: (name, node, what to say of it) -> (what is called, the source of a function that raises).
StandIn = Callable[[str, ir.Node, list[str]], tuple[str, str]]


class Functions:
    """Writes subgraphs, and stand-ins.

    Attributes:
        texts: The source of the functions written so far, each after those that it calls.
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
        self.texts: list[str] = []
        self.partial = partial
        self._stand_in = stand_in
        self._called: dict[tuple, str] = {}
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
        emits, returned = emit_all(graph, *self._emit, self, functional=True)
        results = leaving(returned)
        inside = {*graph.inputs, *(v for node in emits for v in node.outputs)}
        read = [v for emit in emits.values() for v in emit.code.values()] + results
        captured = list(dict.fromkeys(v for v in read if v not in inside))
        name = self._names.fresh(identifier(name, "body"))
        lines = [Line(list(node.outputs), emit.code, emit.targets, hint(node)) for node, emit in emits.items()]
        block = Block("", list(emits), [*graph.inputs, *captured], results)
        self.texts.append(self._text(name, Written(block, [], lines), returned, as_tuple))
        return Function(name, captured)

    def takes(self, node: ir.Node) -> bool:
        """Whether a node is written as a stand-in, for want of a rule."""
        return node.domain == missing.DOMAIN or (self.partial and not self._emit[0].has(node))

    def stand_in(self, op: Op, why: str = "") -> Emit:
        """A call of a function to be filled in, which raises; equal ones share it."""
        inputs = [value for value in op.node.inputs if value is not None]
        key = (op_key(op.node), missing.note(op.node), why, tuple(_type(v) for v in (*inputs, *op.node.outputs)))
        if key not in self._called:
            name = self._names.fresh(identifier(op.node.op_type.lower()))
            about = [f"To be filled in: {missing.note(op.node)}.", *([why] if why else [])]
            takes, gives = (", ".join(map(_type, values)) for values in (inputs, op.node.outputs))
            self._called[key], text = self._stand_in(name, op.node, [*about, f"Takes {takes}.", f"Gives {gives}."])
            self.stand_ins[self._called[key].removesuffix("()")] = missing.note(op.node)
            self.texts.append(text)
        return Emit(call(self._called[key], *(op[i] for i, v in enumerate(op.node.inputs) if v is not None)))

    def _text(self, name: str, written: Written, returned: list[ir.Value | Code], as_tuple: bool) -> str:
        taken = Names(*self._names.taken)
        inputs = {v: taken.fresh(identifier((v.name or "x").rpartition(".")[2])) for v in written.block.inputs}
        names = name_values(written, inputs, reserved=self._names.taken)
        lines = plain_assignments(written, names)
        results = returned_text(returned, names.__getitem__)
        lines.append(f"return {results}{',' if as_tuple and len(returned) == 1 else ''}")
        head = printing.fit(f"def {name}({', '.join(inputs.values())}):")
        return "\n".join([*head, *indent(lines)])


def _type(value: ir.Value) -> str:
    dtype = value.dtype.numpy().name if value.dtype is not None else "?"
    return f"{dtype}{value.shape}" if value.shape is not None else dtype
