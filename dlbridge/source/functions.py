"""Functions: the bodies of If, Loop and Scan, written as functions of the file that are given all that they read."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.source import printing
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.code import Code
from dlbridge.source.definitions import Line, Written
from dlbridge.source.emission import emit_all, leaving
from dlbridge.source.names import Names, identifier
from dlbridge.source.op import Function, Rules
from dlbridge.source.variables import hint, name_values

INDENT = "    "


class Functions:
    """Writes subgraphs.

    Attributes:
        texts: The source of the functions written so far, each after those that it calls.
    """

    def __init__(
        self, rules: Rules, arithmetic: Arithmetic, to_tensor: Callable[[Elements, ir.Value], Code], names: Names
    ) -> None:
        self.texts: list[str] = []
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

    def _text(self, name: str, written: Written, returned: list[ir.Value | Code], as_tuple: bool) -> str:
        taken = Names(*self._names.taken)
        inputs = {v: taken.fresh(identifier((v.name or "x").rpartition(".")[2])) for v in written.block.inputs}
        names = name_values(written, inputs, reserved=self._names.taken)
        lines = []
        for line in written.lines:
            targets = [names[t] for t in line.targets]
            left = line.pattern.format(*targets) if line.pattern else ", ".join(targets)
            lines.append(f"{left} = {line.code.text(names.__getitem__)}")
        results = [r.text(names.__getitem__) if isinstance(r, Code) else names[r] for r in returned]
        lines.append(f"return {', '.join(results)}{',' if as_tuple and len(results) == 1 else ''}")
        head = printing.fit(f"def {name}({', '.join(inputs.values())}):")
        return "\n".join([*head, *(part for line in lines for part in printing.fit(INDENT + line))])
