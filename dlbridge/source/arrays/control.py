"""Control flow over functions that hold the bodies of subgraphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Function, Op, dims
from dlbridge.source.tree.code import Code, Raw, call, code, join

control = Family()


def body_of(function: Function) -> Any:
    """A function with what it captures bound to it."""
    if not function.captured:
        return Raw(function.name)
    return code(f"lambda *args: {function.name}(*args, {{}})", join(", ", list(function.captured)))


def are_alike(first: list[ir.Value], second: list[ir.Value]) -> bool:
    """Whether values have the same dtypes and the same sizes, all of which are known."""
    return all(
        a.dtype == b.dtype and dims(a) is not None and dims(a) == dims(b) and None not in (dims(a) or [])
        for a, b in zip(first, second, strict=True)
    )


def goes_on_always(body: ir.Graph) -> bool:
    """Whether the condition that a loop's body gives is the one that it was given, or true."""
    value: ir.Value | None = body.outputs[0]
    while value is not None and (node := value.producer()) is not None and is_op(node, "Identity"):
        value = node.inputs[0]
    if value is body.inputs[1]:
        return True
    return value is not None and value.const_value is not None and bool(np.all(value.const_value.numpy()))


def may_never_run(op: Op) -> bool:
    """Whether the numbers of a loop allow that its body does not run at all."""
    limit = op.scalar(0) if op.has(0) else None
    begins = not op.has(1) or bool(op.scalar(1))
    return not begins or (op.has(0) and (limit is None or limit < 1))


def empty_outputs(op: Op) -> list[tuple[tuple[int, ...], ir.DataType]]:
    """(sizes, dtype) of the outputs, beside the states, of a loop whose body never runs; none where it always does.

    A size of a round's output that the graph does not tell is 0 then, as in onnxruntime.
    """
    if not may_never_run(op):
        return []
    states = len(op.node.inputs) - 2
    rounds = op.node.attributes["body"].as_graph().outputs[1 + states :]
    return [
        ((0, *(size if isinstance(size, int) else 0 for size in dims(value) or ())), op.out_dtype(states + index))
        for index, value in enumerate(rounds)
    ]


@control("If")
def if_(op: Op, arrays: ArrayDialect) -> Code:
    """A branch of the graph where both branches give the same shapes, as every backend wants; else Python's own if."""
    graphs = [op.node.attributes[f"{name}_branch"].as_graph() for name in ("then", "else")]
    yes, no = (op.function(f"{name}_branch") for name in ("then", "else"))
    branches = call(yes.name, *yes.captured), call(no.name, *no.captured)
    if op.shape() == [] and are_alike(*(list(g.outputs) for g in graphs)):
        return code(f"{arrays.name('cond')}({{}}, lambda: {{}}, lambda: {{}})", op[0], *branches)
    return code(f"{{}} if {arrays.in_python}.all() else {{}}", branches[0], op[0], branches[1])


@control("Loop")
def loop(op: Op, arrays: ArrayDialect) -> Code:
    graph = op.node.attributes["body"].as_graph()
    body = body_of(op.function("body", as_tuple=True))
    states = len(op.node.inputs) - 2
    given = [op[i + 2] for i in range(states)]
    limit = arrays.number(op, 0) if op.has(0) else Raw("None")
    begins = not op.has(1) or bool(op.scalar(1))
    kept = are_alike(list(graph.inputs[2:]), list(graph.outputs[1 : 1 + states]))
    condition = {} if begins else {"condition": op[1]}
    outputs = [arrays.call("zeros", sizes, dtype=arrays.dtype(op, dtype)) for sizes, dtype in empty_outputs(op)]
    empty = {"empty": outputs} if outputs else {}
    if begins and goes_on_always(graph) and isinstance(limit, (int, np.integer)):
        result = call("loop_counted", body, int(limit), given, **empty)
    elif states and len(op.node.outputs) == states and kept:
        limit = op.operand(0) if op.has(0) else limit
        result = call("loop_while", body, limit, given, **condition)
    else:
        result = call("loop", body, limit, given, **condition, **empty)
    return result if len(op.node.outputs) > 1 else code("{}[0]", result)


@control("Scan")
def scan(op: Op, arrays: ArrayDialect) -> Code:
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
    result = call("scan", body_of(body), *given, **keywords)
    return result if len(op.node.outputs) > 1 else code("{}[0]", result)
