"""Branches and loops: what runs in them becomes the bodies of ``If``, ``Loop`` and ``Scan``.

``torch.export`` gives each inner graph of a program all that it reads as arguments. What it is given of the graph
around it, a body reads there itself, as the standard has it. Rules of ops that PyTorch computes step by step make loops
too (``repeat``, ``scan``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy
import torch

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.fx.schema import nothing
from dlbridge.frameworks.pytorch.fx.tensors import DTYPES, Size, rank, sizes, sizes_of, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op
from dlbridge.passes.matching import subgraphs

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.graph.program import Program

#: Gives what an inner graph makes of values.
Run = Callable[..., Sequence[ir.Value]]


# --- higher-order ops of a program ------------------------------------------------------------------------------------


def _cond(
    op: Op, pred: Any, yes: torch.fx.GraphModule, no: torch.fx.GraphModule, given: Sequence[Any] = ()
) -> Sequence[ir.Value]:
    if isinstance(pred, (bool, sympy.logic.boolalg.BooleanAtom)):
        return _runs(op, yes if pred else no, given)()
    flag = _flag(op, pred) if isinstance(pred, ir.Value) else op.program.symbols.truth(pred, op)
    parts = {"then_branch": yes, "else_branch": no}
    bodies = {name: _body(op, name, [], _runs(op, part, given)) for name, part in parts.items()}
    return _node(op, "If", [flag], bodies, [(DTYPES[fake.dtype], sizes_of(fake)) for fake in op.val])


def _while_loop(
    op: Op,
    holds: torch.fx.GraphModule,
    body: torch.fx.GraphModule,
    states: Sequence[Any],
    given: Sequence[Any] = (),
) -> list[ir.Value]:
    values = _tensors(op, states)
    again, run = _runs(op, holds, given), _runs(op, body, given)

    def step(k: ir.Value, goes_on: ir.Value, *now: ir.Value) -> list[ir.Value]:
        new = run(*now)
        return [_flag(op, again(*new)[0]), *new]

    return _loop(op, None, _flag(op, again(*values)[0]), values, step)


def _scan(
    op: Op, body: torch.fx.GraphModule, states: Sequence[Any], sequences: Sequence[Any], given: Sequence[Any] = ()
) -> list[ir.Value]:
    return scan(op, _tensors(op, sequences), _tensors(op, states), _runs(op, body, given))


def _map(op: Op, body: torch.fx.GraphModule, sequences: Sequence[Any], given: Sequence[Any] = ()) -> list[ir.Value]:
    return _scan(op, body, [], sequences, given)


#: Higher-order op -> what reads it.
RULES: dict[str, Callable[..., Sequence[ir.Value]]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
}


def read(program: Program, name: str, args: Sequence[Any], val: Sequence[torch.Tensor]) -> Sequence[Any]:
    """Read a higher-order op; ``val`` are the fake tensors of its results."""
    op = Op(program, val, [v for v in pytree.tree_leaves(args) if isinstance(v, ir.Value)], program.site)
    try:
        return RULES[name](op, *args)
    except UnsupportedOpError as error:
        error.where = error.where or op.site
        program.refused.append(error)
        return nothing(val)


def _runs(op: Op, inner: torch.fx.GraphModule, given: Sequence[Any]) -> Run:
    def run(*values: ir.Value) -> list[ir.Value]:
        made = op.program.run_inner(inner, [*values, *given])
        return _tensors(op, made if isinstance(made, (list, tuple)) else [made])

    return run


def _tensors(op: Op, items: Sequence[Any]) -> list[ir.Value]:
    """The tensors that enter a loop or branch. Numbers and complex tensors cannot, and are refused."""
    for item in items:
        if not isinstance(item, ir.Value) or item.meta.get("complex"):
            op.refuse("a branch or loop over numbers or complex tensors")
    return list(items)


def _flag(op: Op, value: ir.Value) -> ir.Value:
    return op("Reshape", value, []) if rank(value) else value


# --- loops ------------------------------------------------------------------------------------------------------------


def repeat(op: Op, times: ir.Value, states: Sequence[ir.Value], step: Run) -> list[ir.Value]:
    """The final states of ``states = step(k, *states)`` for k = 0, 1, ... below ``times``.

    Args:
        op: The call that is read.
        times: How often, an int64 of rank 0.
        states: Tensors whose dtypes and sizes stay.
        step: Makes the nodes of one round; ``k`` is an int64 of rank 0. It may read any other tensor.
    """
    return _loop(op, times, None, states, lambda k, goes_on, *now: [goes_on, *step(k, *now)])


def _loop(
    op: Op, times: ir.Value | None, begins: ir.Value | None, states: Sequence[ir.Value], step: Run
) -> list[ir.Value]:
    counted: list[_Type] = [(ir.DataType.INT64, []), (ir.DataType.BOOL, [])]
    body = _body(op, "loop", [*counted, *map(_type, states)], step)
    return _node(op, "Loop", [times, begins, *states], {"body": body}, [*map(_type, states)])


def scan(
    op: Op, sequences: Sequence[ir.Value], states: Sequence[ir.Value], step: Run, backwards: bool = False
) -> list[ir.Value]:
    """The final states of ``*states, *y = step(*states, *(x[t] for x in sequences))`` along axis 0, and all y, stacked.

    Args:
        op: The call that is read.
        sequences: What the steps go along.
        states: Tensors whose dtypes and sizes stay.
        step: Makes the nodes of one step. It may read any other tensor.
        backwards: Go from the last to the first; y[t] stays at t.
    """
    length = sizes(sequences[0])[0]
    slices = [(x.dtype, sizes(x)[1:]) for x in sequences]
    body = _body(op, "scan", [*map(_type, states), *slices], step)
    stacked = [(y.dtype, [length, *sizes(y)]) for y in body.outputs[len(states) :]]
    options: dict[str, Any] = {"num_scan_inputs": len(sequences)}
    if backwards:
        options |= {"scan_input_directions": [1] * len(sequences), "scan_output_directions": [1] * len(stacked)}
    return _node(op, "Scan", [*states, *sequences], {"body": body}, [*map(_type, states), *stacked], **options)


#: dtype and sizes of a tensor.
_Type = tuple[ir.DataType | None, Sequence[Size]]


def _type(value: ir.Value) -> _Type:
    return value.dtype, sizes(value)


def _body(op: Op, name: str, types: Sequence[_Type], run: Run) -> ir.Graph:
    """A subgraph of the nodes that ``run`` makes of parameters of these types, whose outputs are what it returns."""
    parameters = []
    for dtype, of in types:
        assert dtype is not None
        shape = ir.Shape([s if isinstance(s, int) else None for s in of])
        parameters.append(with_sizes(ir.Value(name=_name(op), type=ir.TensorType(dtype), shape=shape), of))
    with op.program.body() as nodes:
        results: list[ir.Value] = []
        for value in run(*parameters):
            own = value.producer() in nodes and value not in results
            results.append(value if own else op("Identity", value))
    for value in (v for node in nodes for v in node.outputs if v.name is None):
        value.name = _name(op)  # names made within each graph would clash
    return ir.Graph(parameters, results, nodes=live(nodes, results), name=name)


def _name(op: Op) -> str:
    return f"inner_{next(op.program.inner)}"


def _node(
    op: Op,
    kind: str,
    inputs: Sequence[ir.Value | None],
    bodies: dict[str, ir.Graph],
    types: Sequence[_Type],
    **options: Any,
) -> list[ir.Value]:
    """Add a node with bodies, whose outputs have these types."""
    given = [ir.AttrGraph(name, graph) for name, graph in bodies.items()]
    given += [ir.convenience.convert_attribute(name, option) for name, option in options.items()]
    node = ir.Node("", kind, inputs, given, num_outputs=len(types))
    for value, (dtype, of) in zip(node.outputs, types, strict=True):
        assert dtype is not None
        value.dtype = dtype
        with_sizes(value, of)
    op.program.add(node, op)
    return list(node.outputs)


# --- what is read -----------------------------------------------------------------------------------------------------


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
