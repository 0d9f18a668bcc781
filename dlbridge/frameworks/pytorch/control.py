"""Branches and loops of an exported program: its inner graphs become the bodies of ``If``, ``Loop`` and ``Scan``.

``torch.export`` gives each inner graph all that it reads as arguments. What it is given of the graph around it, a body
reads there itself, as the standard has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy
import torch

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.fx_schema import nothing
from dlbridge.frameworks.pytorch.reading import Op
from dlbridge.frameworks.pytorch.tensors import DTYPES, rank, sized_like, sizes_of, with_sizes
from dlbridge.passes.matching import subgraphs

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.program import Program

#: Gives what an inner graph makes of values.
Run = Callable[..., list[ir.Value]]


def cond(
    program: Program, op: Op, pred: Any, yes: torch.fx.GraphModule, no: torch.fx.GraphModule, given: Sequence[Any] = ()
) -> list[ir.Value]:
    if isinstance(pred, (bool, sympy.logic.boolalg.BooleanAtom)):
        return _runs(program, op, yes if pred else no, given)()
    flag = _flag(op, pred) if isinstance(pred, ir.Value) else program.symbols.truth(pred, op)
    parts = {"then_branch": yes, "else_branch": no}
    bodies = {name: body_of(program, op, name, [], _runs(program, op, part, given)) for name, part in parts.items()}
    return _node(program, op, "If", [flag], bodies)


def while_loop(
    program: Program,
    op: Op,
    goes_on: torch.fx.GraphModule,
    body: torch.fx.GraphModule,
    states: Sequence[Any],
    given: Sequence[Any] = (),
) -> list[ir.Value]:
    values = _values(op, states)
    again, run = _runs(program, op, goes_on, given), _runs(program, op, body, given)
    counted = [parameter(program, dtype, []) for dtype in (ir.DataType.INT64, ir.DataType.BOOL)]
    now = [parameter(program, v.dtype, v.meta["sizes"]) for v in values]

    def step() -> list[ir.Value]:
        new = run(*now)
        return [_flag(op, again(*new)[0]), *new]

    first = _flag(op, again(*values)[0])
    graph = body_of(program, op, "loop", [*counted, *now], step)
    return _node(program, op, "Loop", [None, first, *values], {"body": graph})


def scan(
    program: Program,
    op: Op,
    body: torch.fx.GraphModule,
    states: Sequence[Any],
    sequences: Sequence[Any],
    given: Sequence[Any] = (),
) -> list[ir.Value]:
    return _scan(program, op, _runs(program, op, body, given), _values(op, states), _values(op, sequences))


def map_over(
    program: Program, op: Op, body: torch.fx.GraphModule, sequences: Sequence[Any], given: Sequence[Any] = ()
) -> list[ir.Value]:
    return _scan(program, op, _runs(program, op, body, given), [], _values(op, sequences))


#: Higher-order op -> what reads it.
RULES: dict[str, Callable[..., list[ir.Value]]] = {
    "cond": cond,
    "while_loop": while_loop,
    "scan": scan,
    "map_impl": map_over,
}


def read(program: Program, name: str, args: Sequence[Any], val: Sequence[torch.Tensor]) -> list[Any]:
    """Read a higher-order op; ``val`` are the fake tensors of its results."""
    op = Op(program, val, [v for v in pytree.tree_leaves(args) if isinstance(v, ir.Value)], program.site)
    try:
        return RULES[name](program, op, *args)
    except UnsupportedOpError as error:
        error.where = error.where or op.site
        program.refused.append(error)
        return nothing(val)


def fold_over(
    program: Program,
    op: Op,
    run: Run,
    states: Sequence[ir.Value],
    sequences: Sequence[ir.Value],
) -> list[ir.Value]:
    """The final states of a ``Scan`` whose step, ``run(*states, *parts)``, returns the new states only."""
    now = [parameter(program, v.dtype, v.meta["sizes"]) for v in states]
    now += [parameter(program, v.dtype, v.meta["sizes"][1:]) for v in sequences]
    graph = body_of(program, op, "step", now, lambda: run(*now))
    attributes = [ir.AttrGraph("body", graph), ir.AttrInt64("num_scan_inputs", len(sequences))]
    node = ir.Node("", "Scan", [*states, *sequences], attributes, num_outputs=len(states))
    for value, state in zip(node.outputs, states, strict=True):
        assert state.dtype is not None
        value.dtype = state.dtype
        with_sizes(value, state.meta["sizes"])
    program.add(node, op)
    return list(node.outputs)


def _scan(program: Program, op: Op, run: Run, states: list[ir.Value], sequences: list[ir.Value]) -> list[ir.Value]:
    now = [parameter(program, v.dtype, v.meta["sizes"]) for v in states]
    now += [parameter(program, v.dtype, v.meta["sizes"][1:]) for v in sequences]
    graph = body_of(program, op, "scan", now, lambda: run(*now))
    counted = {"num_scan_inputs": ir.AttrInt64("num_scan_inputs", len(sequences))}
    return _node(program, op, "Scan", [*states, *sequences], {"body": graph}, counted)


def _runs(program: Program, op: Op, inner: torch.fx.GraphModule, given: Sequence[Any]) -> Run:
    def run(*values: ir.Value) -> list[ir.Value]:
        made = program.run_inner(inner, [*values, *given])
        return _values(op, made if isinstance(made, (list, tuple)) else [made])

    return run


def _values(op: Op, items: Sequence[Any]) -> list[ir.Value]:
    """The tensors that enter a loop or branch. Numbers and complex tensors cannot, and are refused."""
    for item in items:
        if not isinstance(item, ir.Value) or item.meta.get("complex"):
            op.refuse("a branch or loop over numbers or complex tensors")
    return list(items)


def parameter(program: Program, dtype: ir.DataType | None, sizes: Sequence[Any]) -> ir.Value:
    """An input of a body."""
    assert dtype is not None
    shape = ir.Shape([s if isinstance(s, int) else None for s in sizes])
    return with_sizes(ir.Value(name=_name(program), type=ir.TensorType(dtype), shape=shape), sizes)


def _name(program: Program) -> str:
    return f"inner_{next(program.inner)}"


def body_of(
    program: Program, op: Op, name: str, parameters: Sequence[ir.Value], run: Callable[[], Sequence[ir.Value]]
) -> ir.Graph:
    """A subgraph of the nodes that ``run`` creates, whose outputs are what it returns."""
    with program.body() as nodes:
        results: list[ir.Value] = []
        for value in run():
            own = value.producer() in nodes and value not in results
            results.append(value if own else sized_like(op("Identity", value), value))
    for value in (v for node in nodes for v in node.outputs if v.name is None):
        value.name = _name(program)  # names made within each graph would clash
    return ir.Graph(list(parameters), results, nodes=live(nodes, results), name=name)


def _flag(op: Op, value: ir.Value) -> ir.Value:
    return op("Reshape", value, []) if rank(value) else value


def _node(
    program: Program,
    op: Op,
    kind: str,
    inputs: Sequence[ir.Value | None],
    bodies: dict[str, ir.Graph],
    attributes: dict[str, ir.Attr] | None = None,
) -> list[ir.Value]:
    given = [*(ir.AttrGraph(name, graph) for name, graph in bodies.items()), *(attributes or {}).values()]
    node = ir.Node("", kind, inputs, given, num_outputs=len(op.val))
    for value, fake in zip(node.outputs, op.val, strict=True):
        value.dtype = DTYPES[fake.dtype]
        with_sizes(value, sizes_of(fake))
    program.add(node, op)
    return list(node.outputs)


def _graphs(node: ir.Node) -> list[ir.Graph]:
    return [graph for attribute in node.attributes.values() for graph in subgraphs(attribute)]


def inside(node: ir.Node) -> list[ir.Node]:
    """The nodes in the bodies of a node, nested bodies included."""
    return [n for graph in _graphs(node) for inner in graph for n in (inner, *inside(inner))]


def reads(node: ir.Node) -> set[ir.Value]:
    """The values that a node and its bodies read."""
    found = {v for v in node.inputs if v is not None}
    for graph in _graphs(node):
        found.update(graph.outputs, *(reads(inner) for inner in graph))
    return found


def live(nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes that the outputs need, in order."""
    needed = {v.producer() for v in outputs}
    for node in reversed(nodes):
        if node in needed:
            needed |= {v.producer() for v in reads(node)}
    return [node for node in nodes if node in needed]
