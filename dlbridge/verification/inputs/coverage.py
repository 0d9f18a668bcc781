"""Coverage: what the inputs of a verification have reached in the graph.

That a form agrees shows nothing about a branch that no input takes. So the graph is run once more with small results
added to it: the least and the largest number of each value, whether each condition was ever true and ever false, and
which rows of each table were read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.model import Model
from dlbridge.ops.keys import is_op, op_key
from dlbridge.ops.strings import is_text
from dlbridge.passes.matching import Match, stored, subgraphs
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.inputs.sizes import bytes_of_weights

#: Where the condition of an op is, and what its two outcomes are called.
_CONDITIONS = {"If": (0, "the then branch", "the else branch"), "Where": (0, "its first value", "its second value")}
#: (op, input that is an index) -> the input that is the table.
_TABLES = {("Embedding", 0): 1, ("Gather", 1): 0}
#: Float types whose least and largest numbers onnxruntime finds.
_RANGED = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
#: Weights that a run for conditions and tables alone may need, in bytes.
_LARGEST_FOR_CONDITIONS = 64 << 20


@dataclass
class Coverage:
    """What inputs have reached.

    Attributes:
        nodes: The number of nodes in the graph and the graphs within it.
        reached: How many of them were run by some input.
        inputs: Input -> the least and the largest finite number that it was given.
        ranges: Node -> the least and the largest number that it has computed; empty where that was not looked at.
        branches: Node -> the outcomes of its condition that some input has taken.
        tables: Node -> (rows that were read, rows that there are).
        unreached: The branches and outcomes that no input has taken, as sentences.
        dead: The nodes that compute the same number everywhere for every input, as sentences.
        trouble: Why it was not looked at, or not everywhere.
    """

    nodes: int = 0
    reached: int = 0
    inputs: dict[str, tuple[float, float]] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    branches: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Probe:
    """A result that is added to the graph: what it tells of which node, and the outputs that hold it.

    Attributes:
        kind: ``"condition"``, ``"table"`` or ``"range"``.
        node: The node.
        name: What reports call it.
        outputs: The outputs that hold the result.
        rows: The number of rows of a table.
    """

    kind: str
    node: ir.Node
    name: str
    outputs: tuple[str, ...]
    rows: int = 0


def cover(model: Model, cases: Sequence[Case], *, everything: bool) -> Coverage:
    """What the sets of inputs have reached.

    Args:
        model: The model; it is not changed.
        cases: The sets of inputs.
        everything: Look at the numbers of every node too, which costs a run of the whole graph for each set. Otherwise
            only conditions and tables are looked at, if the part of the graph before them is small.
    """
    found = Coverage(nodes=sum(1 for _ in model.graph.all_nodes()), inputs=_input_ranges(cases))
    copy = model.clone()
    probes = list(_probes(copy, everything))
    if probes:
        try:
            seen = _run(copy, cases, everything)
        except Exception as error:  # a graph that onnxruntime does not run: the comparison says so if it matters
            seen = None
            found.trouble = f"not looked at: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        if seen is None:
            found.trouble = found.trouble or "not looked at: conditions and tables depend on most of the model"
        else:
            for probe in probes:
                _read(probe, seen, found)
    found.reached = found.nodes - sum(len(list(graph.all_nodes())) for graph in _untaken(model, found))
    return found


def _input_ranges(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for case in cases:
        for name, array in case.arrays.items():
            if is_text(array):
                continue
            numbers = array.astype(np.float64)
            numbers = numbers[np.isfinite(numbers)]
            if numbers.size:
                least, largest = found.get(name, (np.inf, -np.inf))
                found[name] = (min(least, float(numbers.min())), max(largest, float(numbers.max())))
    return found


# --- what is added to the graph ---------------------------------------------------------------------------------------


def _probes(model: Model, everything: bool) -> Iterator[_Probe]:
    """Add results to the graph that tell what is reached; the graph's own outputs go, where they are not needed."""
    graph = model.graph
    nodes, depends = list(graph), _depending(graph)
    added: list[ir.Value] = []
    for index, node in enumerate(nodes):
        name = node.name or node.outputs[0].name or ""
        if (condition := _condition(node)) is not None and condition in depends:
            truth = _add(graph, "Cast", condition, ir.DataType.INT32, to=int(ir.DataType.INT32))
            added += (ends := _ends(graph, truth, f"{index}.truth"))
            yield _Probe("condition", node, name, tuple(v.name or "" for v in ends))
        for slot, operand in enumerate(node.inputs):
            table = _table(node, slot) if operand is not None and operand in depends else None
            if operand is None or table is None:
                continue
            read = _add(graph, "Cast", operand, ir.DataType.INT64, to=int(ir.DataType.INT64))
            read.name = f"coverage.{index}.rows"
            added.append(read)
            yield _Probe("table", node, f"{name} ({table[0].name})", (read.name,), table[1])
        output = node.outputs[0]
        if everything and output in depends and output.dtype in _RANGED:
            added += (ends := _ends(graph, output, f"{index}.range"))
            yield _Probe("range", node, name, tuple(v.name or "" for v in ends))
    graph.outputs[:] = added
    model.training = None


def _depending(graph: ir.Graph) -> set[ir.Value]:
    """The values that depend on an input."""
    depends = {v for v in graph.inputs if not v.is_initializer()}
    for node in graph:
        inner = [v for a in node.attributes.values() for g in subgraphs(a) for n in g.all_nodes() for v in n.inputs]
        if any(v in depends for v in (*node.inputs, *inner)) and not is_op(node, "Shape", "Size"):
            depends.update(node.outputs)
    return depends


def _condition(node: ir.Node) -> ir.Value | None:
    found = _CONDITIONS.get(op_key(node))
    return node.inputs[found[0]] if found is not None else None


def _table(node: ir.Node, slot: int) -> tuple[ir.Value, int] | None:
    """The table that an input indexes, and the number of its rows; None if it indexes none whose size is known."""
    table = _TABLES.get((op_key(node), slot))
    held = node.inputs[table] if table is not None else None
    if held is None or stored(held) is None or held.shape is None:
        return None
    size = held.shape[Match(node).get("axis", 0)]
    return (held, size) if isinstance(size, int) else None


def _add(graph: ir.Graph, op: str, value: ir.Value, dtype: ir.DataType | None, **attributes: Any) -> ir.Value:
    node = ir.node(op, [value], attributes)
    graph.append(node)
    output = node.outputs[0]
    output.type, output.shape = None if dtype is None else ir.TensorType(dtype), value.shape
    return output


def _ends(graph: ir.Graph, value: ir.Value, name: str) -> list[ir.Value]:
    """The least and the largest number of a value."""
    found = []
    for op in ("ReduceMin", "ReduceMax"):
        end = _add(graph, op, value, value.dtype, keepdims=0)
        end.name, end.shape = f"coverage.{name}.{op}", ir.Shape([])
        found.append(end)
    return found


def _run(model: Model, cases: Sequence[Case], everything: bool) -> list[Mapping[str, np.ndarray]] | None:
    """The added results for each set of inputs; None if too much of the model would have to be run for them."""
    _drop_unneeded(model.graph)
    weights = bytes_of_weights(model)
    if not everything and weights > _LARGEST_FOR_CONDITIONS:
        return None
    standard = frameworks.get(frameworks.STANDARD)
    live = standard.load(standard.write(model))
    return [standard.run(live, case.arrays) for case in cases]


def _drop_unneeded(graph: ir.Graph) -> None:
    """Remove what the outputs do not need."""
    needed = set(graph.outputs)
    for node in reversed(list(graph)):
        if not needed.intersection(node.outputs):
            graph.remove(node)
            continue
        inner = [v for a in node.attributes.values() for g in subgraphs(a) for n in g.all_nodes() for v in n.inputs]
        needed.update(v for v in (*node.inputs, *inner) if v is not None)
        needed.update(v for a in node.attributes.values() for g in subgraphs(a) for v in g.outputs)
    for name, value in list(graph.initializers.items()):
        if value not in needed and not value.is_graph_input():
            del graph.initializers[name]


# --- what is read from the results ------------------------------------------------------------------------------------


def _read(probe: _Probe, seen: Sequence[Mapping[str, np.ndarray]], found: Coverage) -> None:
    node, name = probe.node, probe.name
    results = [[run[output] for output in probe.outputs] for run in seen]
    if probe.kind == "table":
        read = {int(r) % probe.rows for (array,) in results for r in np.unique(array)}
        found.tables[name] = (len(read), probe.rows)
        return
    least = min(float(low) for low, _ in results)
    largest = max(float(high) for _, high in results)
    if probe.kind == "condition":
        _, if_true, if_false = _CONDITIONS[op_key(node)]
        taken = {if_true: largest == 1, if_false: least == 0}
        found.branches[name] = [outcome for outcome, is_taken in taken.items() if is_taken]
        found.unreached += [
            f"{op_key(node)} '{name}': no input takes {outcome}" for outcome, is_taken in taken.items() if not is_taken
        ]
        return
    found.ranges[name] = (least, largest)
    if least == largest and len(results) > 1:
        found.dead.append(f"{op_key(node)} '{name}' gives {least:g} everywhere for every input")


def _untaken(model: Model, found: Coverage) -> Iterator[ir.Graph]:
    """The branches of ``If`` that no input has taken."""
    for node in model.graph.all_nodes():
        taken = found.branches.get(node.name or "")
        if not is_op(node, "If") or taken is None:
            continue
        for outcome, attribute in (("the then branch", "then_branch"), ("the else branch", "else_branch")):
            if outcome not in taken:
                yield node.attributes[attribute].as_graph()
