"""Recurrent layers that were one layer of several in PyTorch (``num_layers``) become one again.

ONNX has a node for each. A node of the domain ``dlbridge.stack`` stands for all of them: inputs X, the initial states
(or nothing), then W, R and B of each layer; outputs as PyTorch's layer gives them.
"""

from __future__ import annotations

import itertools

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes.matching import constant, input_at
from dlbridge.passes.unused import remove_unused
from dlbridge.source.recurrent import joins, turns

DOMAIN = "dlbridge.stack"
#: Op -> how many states it has.
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
_LENGTHS, _STATE, _PEEPHOLES = 4, 5, 7


def join_stacks(graph: ir.Graph) -> None:
    """Join every stack whose parts are connected as they are in PyTorch; in place."""
    stacks: dict[str, list[ir.Node]] = {}
    for node in graph:
        if traits.STACK in node.metadata_props and op_key(node) in STATES:
            stacks.setdefault((node.name or "").rpartition(".")[0], []).append(node)
    for path, nodes in stacks.items():
        if len(nodes) > 1:
            kept = nodes[0].metadata_props[traits.STACK]
            _join(graph, path if kept == "true" else kept, nodes)
    remove_unused(graph)


def _join(graph: ir.Graph, path: str, nodes: list[ir.Node]) -> None:
    links = [_link(node, after) for node, after in itertools.pairwise(nodes)]
    ends, states = _native(nodes[-1].outputs[0]), range(STATES[op_key(nodes[0])])
    initial = [_source([input_at(n, _STATE + s) for n in nodes]) for s in states]
    finals = [_gathered([n.outputs[1 + s] if len(n.outputs) > 1 + s else None for n in nodes]) for s in states]
    alike = all(n.attributes == nodes[0].attributes for n in nodes)
    plain = all(input_at(n, slot) is None for n in nodes for slot in (_LENGTHS, _PEEPHOLES))
    weights = [input_at(n, slot) for n in nodes for slot in (1, 2, 3)]
    plain = plain and all(v is None or traits.kind(v) in ("parameter", "frozen") for v in weights)
    alike = alike and len({n.metadata_props.get(traits.BIASES) for n in nodes}) == 1
    if (
        None in links
        or len(set(links)) > 1
        or ends is None
        or None in initial
        or len({bool(values) for values in initial}) > 1  # one of LSTM's two alone: PyTorch takes both
        or None in finals
        or not (alike and plain)
    ):
        return
    given = [nodes[0].inputs[0], *(values[0] if values else None for values in initial), *weights]  # type: ignore[index]
    more = [ir.AttrInt64("num_layers", len(nodes)), ir.AttrFloat32("dropout", links[0] or 0.0)]
    joined = ir.Node(
        DOMAIN,
        op_key(nodes[0]),
        given,
        [*nodes[0].attributes.values(), *more],
        num_outputs=1 + len(states),
        name=path,
    )
    kept = (traits.BIASES, traits.ROOT_LAYER)
    joined.metadata_props.update({k: v for k, v in nodes[0].metadata_props.items() if k in kept})
    graph.insert_after(nodes[-1], joined)
    for old, new in zip([ends, *finals], joined.outputs, strict=True):
        for value in old:  # type: ignore[union-attr]
            new.dtype, new.shape, new.name = value.dtype, value.shape, value.name
            ir.convenience.replace_all_uses_with(value, new, replace_graph_outputs=True)


def _native(value: ir.Value) -> list[ir.Value] | None:
    """Y where it is brought into the form (time, batch, directions * hidden); None where it is read as it is."""
    found = []
    for node in value.consumers():
        if is_op(node, "Squeeze"):
            found.append(node.outputs[0])
            continue
        inner = list(node.outputs[0].consumers())
        if not turns(node, [0, 2, 1, 3]) or not all(joins(n) for n in inner) or node.outputs[0].is_graph_output():
            return None
        found += [n.outputs[0] for n in inner]
    return None if value.is_graph_output() else found


def _link(node: ir.Node, after: ir.Node) -> float | None:
    """The ratio of the dropout between two layers, 0 where there is none; None where more is between them."""
    found = _native(node.outputs[0])
    if found is None or len(found) != 1:
        return None
    value, ratio = found[0], 0.0
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    reader = value.consumers()[0]
    if is_op(reader, "Dropout") and len(reader.outputs[0].uses()) == 1 and not reader.outputs[0].is_graph_output():
        given = constant(input_at(reader, 1))
        ratio = float(given.numpy()) if given is not None else 0.5
        value, reader = reader.outputs[0], reader.outputs[0].consumers()[0]
    return ratio if reader is after and after.inputs[0] is value else None


def _source(parts: list[ir.Value | None]) -> list[ir.Value] | None:
    """[the tensor that initial states are cut from, in order], [] where there are none; None where they are not."""
    if all(part is None for part in parts):
        return []
    cuts = [part.producer() if part is not None else None for part in parts]
    if any(cut is None or not is_op(cut, "Slice") for cut in cuts):
        return None
    source, rows, place = cuts[0].inputs[0], cuts[0].outputs[0].shape, 0  # type: ignore[union-attr]
    for cut in cuts:
        numbers = [constant(v) for v in cut.inputs[1:]]  # type: ignore[union-attr]
        if cut.inputs[0] is not source or len(numbers) < 3 or rows is None or any(n is None for n in numbers):  # type: ignore[union-attr]
            return None
        start, stop, axis = (int(n.numpy().reshape(-1)[0]) for n in numbers[:3])  # type: ignore[union-attr]
        if numbers[0].size != 1 or axis != 0 or start != place or stop - start != rows[0]:  # type: ignore[union-attr]
            return None
        place = stop
    return [source] if source.shape is not None and source.shape[0] == place else None


def _gathered(parts: list[ir.Value | None]) -> list[ir.Value] | None:
    """[what joins the final states, in order], [] where nothing reads them; None where something else does."""
    if all(part is None or not (part.uses() or part.is_graph_output()) for part in parts):
        return []
    readers = {node for part in parts if part is not None for node in part.consumers()}
    node = next(iter(readers), None)
    joined = node is not None and is_op(node, "Concat") and node.attributes["axis"].as_int() == 0
    if len(readers) != 1 or not joined or list(node.inputs) != parts or any(p.is_graph_output() for p in parts):  # type: ignore[union-attr]
        return None
    return [node.outputs[0]]  # type: ignore[union-attr]
