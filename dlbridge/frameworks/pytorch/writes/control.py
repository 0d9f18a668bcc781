"""Control flow: If, Loop and Scan as Python's own, over functions that hold their bodies."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.code import Code, Raw, call, code, join
from dlbridge.source.op import Function, Op


def _body(function: Function) -> Any:
    """A function with what it captures bound to it."""
    if not function.captured:
        return Raw(function.name)
    return code(f"lambda *args: {function.name}(*args, {{}})", join(", ", list(function.captured)))


@rules("If")
def if_(op: Op) -> Code:
    yes, no = (op.function(f"{name}_branch") for name in ("then", "else"))
    return code("{} if {} else {}", call(yes.name, *yes.captured), op[0], call(no.name, *no.captured))


@rules("Loop")
def loop(op: Op) -> Code:
    body = op.function("body", as_tuple=True)
    states = len(op.node.inputs) - 2
    limit = None if not op.has(0) else op.operand(0)
    keywords = {"condition": op[1]} if op.has(1) else {}
    given = [op[i + 2] for i in range(states)]
    result = call("loop", _body(body), Raw("None") if limit is None else limit, given, **keywords)
    return result if len(op.node.outputs) > 1 else code("{}[0]", result)


@rules("Scan")
def scan(op: Op) -> Code:
    body = op.function("body", as_tuple=True)
    count = op.attr("num_scan_inputs")
    states = len(op.node.inputs) - count
    given = [[op[i] for i in range(states)], [op[states + i] for i in range(count)]]
    names = {
        "axes": "scan_input_axes",
        "backwards": "scan_input_directions",
        "output_axes": "scan_output_axes",
        "output_backwards": "scan_output_directions",
    }
    keywords = {k: list(op.attr(n)) for k, n in names.items() if any(op.attr(n) or [])}
    result = call("scan", _body(body), *given, **keywords)
    return result if len(op.node.outputs) > 1 else code("{}[0]", result)
