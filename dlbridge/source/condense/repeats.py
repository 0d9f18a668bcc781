"""Modules that are called more than once: the code of the first call stays, the others become calls of the module.

A node of the domain ``dlbridge.call`` stands for such a call. Its inputs are what the call reads, then what the first
call reads in the same places, then what the first call gives; its outputs are what the call gives in these places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.ops.extension import TRAINING_ONLY_OPS
from dlbridge.ops.keys import op_key
from dlbridge.ops.names import unique
from dlbridge.passes.matching import subgraphs
from dlbridge.source.blocks import is_weight
from dlbridge.source.op import Emit, Op
from dlbridge.source.paths import Paths
from dlbridge.source.tree.code import join

DOMAIN = "dlbridge.call"
#: Attributes of the node: the module's path, and how many values the call reads.
PATH, COUNT = "path", "count"
#: Ops that make a tensor of nothing but sizes and numbers.
_NEW = ("ConstantOfShape", "Expand")
#: Ops whose code has no sizes in it: calls of these alone may be of tensors of other sizes (heads on a pyramid).
_SIZELESS = frozenset(
    {"Conv", "BatchNormalization", "GroupNormalization", "InstanceNormalization", "Linear", "Dropout", "Concat"}
    | {"GlobalAveragePool", "GlobalMaxPool", *UNARY_OPS, *BROADCASTING_OPS}
)


def join_repeats(graph: ir.Graph, apart: Collection[str] = ()) -> bool:
    """Replace every further call that does what the first one does, in place; not those of the modules ``apart``.

    Returns:
        Whether there was one.
    """
    found = False
    for path in sorted(_paths(graph) - set(apart), key=lambda p: (p.count("."), p)):
        calls = _calls(graph, path)
        first = calls.pop(min(calls)) if calls else []
        if not first or not _is_whole(graph, path, first):
            continue
        for nodes in calls.values():
            _part_states(graph, first, nodes)
            same = _same(first, nodes)
            if same is not None:
                _replace(graph, path, first, nodes, same)
                found = True
    if found:
        graph.sort()
    return found


def respell_calls(graph: ir.Graph, paths: Paths) -> None:
    """Respell the paths of a graph, and those that its calls name, in place."""
    paths.respell(graph)
    for node in graph:
        if node.domain == DOMAIN:
            node.attributes[PATH] = ir.AttrString(PATH, paths(node.attributes[PATH].as_string()))


def further_call(op: Op) -> Emit:
    """The rule of a further call: the writer says how, once it knows the module's own code."""
    return Emit(join(", ", [op[i] for i in range(len(op.node.inputs))]))


def _paths(graph: ir.Graph) -> set[str]:
    return {path for node in graph for path in traits.calls(node)}


def _calls(graph: ir.Graph, path: str) -> dict[int, list[ir.Node]]:
    calls: dict[int, list[ir.Node]] = defaultdict(list)
    for node in graph:
        number = traits.calls(node).get(path)
        if number is not None:
            calls[number].append(node)
    return calls


def _is_whole(graph: ir.Graph, path: str, nodes: list[ir.Node]) -> bool:
    """Whether a call is all of a block, or the one layer at that path; what has no state needs no module."""
    if len(nodes) == 1 and nodes[0].name == path:
        held = any(v is not None and is_weight(v) and traits.kind(v) != "constant" for v in nodes[0].inputs)
        return held or op_key(nodes[0]) in ("Dropout", *TRAINING_ONLY_OPS)
    return path in traits.blocks(graph) and all(f"{traits.scope(n)}.".startswith(f"{path}.") for n in nodes)


def _part_states(graph: ir.Graph, first: list[ir.Node], nodes: list[ir.Node]) -> None:
    """Where the first call reads one new tensor in the place of two that a later call reads (``h = c = zeros``), make
    it two."""
    if len(first) != len(nodes):
        return
    others: dict[ir.Value, dict[ir.Value, ir.Value]] = {}
    for a, b in zip(first, nodes, strict=True):
        for slot, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=False)):
            maker = x.producer() if x is not None else None
            if x is None or y is None or maker is None or maker in first or op_key(maker) not in _NEW:
                continue
            known = others.setdefault(x, {y: x})
            if y not in known:
                copy = ir.Node(
                    "",
                    op_key(maker),
                    maker.inputs,
                    maker.attributes.values(),
                    name=unique(maker.name or "", {n.name or "" for n in graph}),
                )
                copy.metadata_props.update(maker.metadata_props)
                made = copy.outputs[0]
                made.type, made.shape = x.type, x.shape
                made.name = unique(x.name or "", {v.name or "" for n in graph for v in n.outputs})
                graph.insert_after(maker, copy)
                known[y] = made
            a.replace_input_with(slot, known[y])


def _same(first: list[ir.Node], nodes: list[ir.Node]) -> dict[ir.Value, ir.Value] | None:
    """Value of the first call -> value of the other, if both do the same with the same weights and sizes.

    The other may lack what nothing reads of it, as the last of several steps lacks its new state.
    """
    found: dict[ir.Value, ir.Value] = {}
    lacking: set[ir.Node] = set()
    left = iter(nodes)
    b = next(left, None)
    for a in first:
        if _has_body(a):
            return None
        pairs = _pairs(a, b, found) if b is not None and not lacking & _producers(a) else None
        if pairs is None:
            lacking.add(a)
        else:
            found |= pairs
            b = next(left, None)
    if b is not None or not all(_reads_known(a, found, lacking) for a in lacking):
        return None
    return found if all(_fits(first, *pair) for pair in found.items()) else None


def _pairs(a: ir.Node, b: ir.Node, known: Mapping[ir.Value, ir.Value]) -> dict[ir.Value, ir.Value] | None:
    """Value of one node -> value of the other, if they are the same op on what is known to be the same."""
    alike = a.op_identifier() == b.op_identifier() and _settings(a) == _settings(b)
    if not alike or len(a.inputs) != len(b.inputs) or len(a.outputs) != len(b.outputs):
        return None
    found: dict[ir.Value, ir.Value] = {}
    for x, y in zip(a.inputs, b.inputs, strict=True):
        if x is None or y is None or is_weight(x) or is_weight(y):
            if x is not y:
                return None
        elif known.get(x, y) is not y or found.setdefault(x, y) is not y:
            return None
    return found | dict(zip(a.outputs, b.outputs, strict=True))


def _settings(node: ir.Node) -> dict[str, Any]:
    """The attributes of a node; of a tensor, its numbers."""
    found: dict[str, Any] = dict(node.attributes)
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            found[name] = tensor.dtype, tuple(tensor.shape), tensor.tobytes()
    return found


def _producers(node: ir.Node) -> set[ir.Node | None]:
    return {value.producer() for value in node.inputs if value is not None}


def _reads_known(node: ir.Node, known: Collection[ir.Value], lacking: Collection[ir.Node]) -> bool:
    """Whether a node of the first call that another one lacks reads nothing that only it reads."""
    given = [value for value in node.inputs if value is not None and not is_weight(value)]
    return all(value in known or value.producer() in lacking for value in given)


def _fits(nodes: list[ir.Node], x: ir.Value, y: ir.Value) -> bool:
    """Whether the code that was written for one value is right for the other."""
    if x.dtype != y.dtype or x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return x is y
    return x.shape == y.shape or all(n.domain in ("", "dlbridge") and op_key(n) in _SIZELESS for n in nodes)


def _has_body(node: ir.Node) -> bool:
    return any(subgraphs(attribute) for attribute in node.attributes.values())


def _replace(
    graph: ir.Graph, path: str, first: list[ir.Node], nodes: list[ir.Node], same: dict[ir.Value, ir.Value]
) -> None:
    inside, own = set(first), set(nodes)
    given = [v for v in same if v.producer() not in inside]
    results = [v for v in same if v.producer() in inside and (_leaves(v, inside) or _leaves(same[v], own))]
    unread = [v for node in first for v in node.outputs if v not in same and _leaves(v, inside)]
    call = ir.Node(
        DOMAIN,
        "Call",
        [*(same[v] for v in given), *given, *results, *unread],
        [ir.AttrString(PATH, path), ir.AttrInt64(COUNT, len(given))],
        num_outputs=len(results) + len(unread),
        name=f"{path}_call_{len(graph)}",
    )
    traits.mark(call, traits.ANONYMOUS)
    graph.insert_after(nodes[-1], call)
    for value, made in zip(results, call.outputs, strict=False):
        old = same[value]
        made.type, made.shape, made.name = old.type, old.shape, old.name
        traits.set_called(made, traits.called(old))
        ir.convenience.replace_all_uses_with(old, made, replace_graph_outputs=True)
    taken = {v.name or "" for node in graph for v in node.outputs} if unread else set()
    for value, made in zip(unread, call.outputs[len(results) :], strict=True):
        made.type, made.shape, made.name = value.type, value.shape, unique(value.name or "", taken)
    for node in reversed(nodes):
        graph.remove(node, safe=True)


def _leaves(value: ir.Value, nodes: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(use.node not in nodes for use in value.uses())
