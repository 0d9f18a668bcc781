"""Names nodes by the path of the module that they implement or are located in, and records the classes of blocks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from dlbridge.frameworks.pytorch.graph.reading import LAYER_NAME, WHOLE_MODULE
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.ops.names import prefixes, unique
from dlbridge.passes.scopes import become_module, move_into_block

#: PyTorch's modules that consist of other modules: a node in one does not implement it.
_HOLDERS = re.compile(r"torch\.nn\.modules\.(container\.|transformer\.|rnn\.\w+Cell$)|.*\.MultiheadAttention$")
#: Key of ``node.meta``: the node implements one of PyTorch's layers, even if shared weights have another layer's name.
_LAYER = "pytorch.layer"


@dataclass(frozen=True)
class Frame:
    """Where a call is located: the modules around it, outermost first, as (path, class), and how often each was called
    before."""

    modules: tuple[tuple[str, str], ...]
    repeats: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def path(self) -> str:
        return self.modules[-1][0] if self.modules else ""

    @property
    def code(self) -> str:
        """Path of the module whose code makes the call: one of torch's layers is a call in the module around it."""
        return next((path for path, kind in reversed(self.modules) if not kind.startswith("torch.nn.modules.")), "")


def is_layer(kind: str) -> bool:
    """Whether a class is one of PyTorch's own layers, which the writer prints as one line."""
    return kind.startswith("torch.nn.modules.") and not _HOLDERS.match(kind)


def dotted(path: str) -> str:
    """A module path as the name of a node: the path in the state dict, with spaces replaced."""
    return ".".join(re.sub(r"[\s$]+", "_", part) for part in path.split(".") if part)


def name_nodes(nodes: Sequence[ir.Node], frames: Mapping[ir.Node, Frame]) -> dict[str, str]:
    """Give every node its dotted path.

    A node in one of PyTorch's layers gets the layer's path; if there are several, the one that reads the weights does,
    or the last one. Other nodes are named after their op, in the block that they are located in.

    Returns:
        {path: class} of the blocks.
    """
    blocks: dict[str, str] = {}
    inside: dict[str, list[ir.Node]] = {}
    for node in nodes:
        layer = _layer_around(node, frames)
        for path, kind in frames[node].modules:
            if path == layer:
                inside.setdefault(path, []).append(node)
                break
            blocks.setdefault(dotted(path), kind.rpartition(".")[2])
    layers = {node: own for node in nodes if (own := node.meta.get(LAYER_NAME))}
    layers |= _layers_by_weights([node for node in nodes if node not in layers], frames, inside)
    layers |= {
        _implementing(_of_first_call(members, path, frames)): path
        for path, members in inside.items()
        if not layers.keys() & set(members)
    }
    _record_calls(nodes, frames)
    _mark_root_layer(nodes, frames)
    taken = {dotted(path) for path in (*inside, *layers.values())} | set(blocks)
    again = _Calls(taken)
    for node in nodes:
        if node in layers:
            node.name = again(node, dotted(layers[node]))
            node.meta[_LAYER] = True
            continue
        place = _layer_around(node, frames)
        head = f"{dotted(place)}_" if place is not None else f"{dotted(frames[node].path)}."
        node.name = unique(head.lstrip(".") + node.op_type.lower(), taken)
        traits.mark(node, traits.ANONYMOUS)
    return blocks


def _layers_by_weights(
    nodes: Sequence[ir.Node], frames: Mapping[ir.Node, Frame], called: Container[str]
) -> dict[ir.Node, str]:
    """Node -> path of the linear layer that it is, where the code around that reads its weights and does not call it:
    ``F.linear(x, self.proj.weight, self.proj.bias)``."""
    reads = Counter(name for node in nodes for name in _weights(node).values())
    found: dict[ir.Node, str] = {}
    for node in nodes:
        path = _weights(node).get(1, "").rpartition(".")[0] if op_key(node) == "Linear" else ""
        is_part = bool(path) and path.rpartition(".")[0] == frames[node].path and path not in called
        if is_part and _is_layer_of(node, path) and all(reads[name] == 1 for name in _weights(node).values()):
            found[node] = path
    return found


def _mark_root_layer(nodes: Sequence[ir.Node], frames: Mapping[ir.Node, Frame]) -> None:
    """Mark the nodes of a model that is itself one of PyTorch's layers: its weights have names without a module."""
    for node in nodes:
        modules = frames[node].modules
        if len(modules) == 1 and modules[0][0] == "" and is_layer(modules[0][1]) and _weights(node):
            traits.mark(node, traits.ROOT_LAYER)


def _record_calls(nodes: Sequence[ir.Node], frames: Mapping[ir.Node, Frame]) -> None:
    """Record, for nodes of modules that are called more than once, which call they belong to."""
    several = {path for frame in frames.values() for path, number in frame.repeats.items() if number}
    for node in nodes if several else ():
        calls = {dotted(path): number for path, number in frames[node].repeats.items() if path in several}
        if calls:
            node.metadata_props[traits.CALLS] = json.dumps(calls)


class _Calls:
    """Names the layers of modules that are called more than once: later calls get a path beside the first."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.count: Counter[str] = Counter()
        self.paths: dict[tuple[str, int], str] = {}

    def __call__(self, node: ir.Node, name: str) -> str:
        self.count[name] += 1
        if self.count[name] == 1:
            return name
        path, _, leaf = name.rpartition(".")
        key = path, self.count[name]
        if key not in self.paths:
            self.paths[key] = unique(path, {*self.taken, *(p for n in self.taken for p in prefixes(n))})
        node.metadata_props[traits.STACK] = path
        fresh = f"{self.paths[key]}.{leaf}"
        self.taken.add(fresh)
        return fresh


def _layer_around(node: ir.Node, frames: Mapping[ir.Node, Frame]) -> str | None:
    """The path of the layer that a node is located in. (A model that is itself one layer counts as a block.)"""
    own = frames[node].path if node.meta.get(WHOLE_MODULE) else None
    return next((p for p, kind in frames[node].modules if p and (is_layer(kind) or p == own)), None)


def _of_first_call(nodes: list[ir.Node], path: str, frames: Mapping[ir.Node, Frame]) -> list[ir.Node]:
    """The nodes that belong to the same call of the module at a path as the first of them."""
    first = frames[nodes[0]].repeats.get(path, 0)
    return [node for node in nodes if frames[node].repeats.get(path, 0) == first]


def _implementing(nodes: list[ir.Node]) -> ir.Node:
    """The node that is a layer; others compute what it reads, as its weight, or what is made of its result."""
    weighted = [n for n in nodes if _weights(n)]
    if any(op_key(n) in _SLOTS for n in weighted):
        return weighted[-1]
    with_computed_weights = [n for n in nodes if op_key(n) in _SLOTS]
    return (with_computed_weights or weighted or nodes)[-1]


def _weights(node: ir.Node) -> dict[int, str]:
    """Index of the input -> name of the weight, for the weights that a node reads."""
    read = {place: value for place, value in enumerate(node.inputs) if value is not None and is_weight(value)}
    return {place: value.name or "" for place, value in read.items()}


def is_weight(value: ir.Value) -> bool:
    return value.const_value is not None and traits.kind(value) != "constant"


_WEIGHT, _BOTH = {"weight": 1}, {"weight": 1, "bias": 2}
#: Op -> {name of a weight in PyTorch's layer: index of the input}.
_SLOTS: dict[str, dict[str, int]] = {
    "BatchNormalization": {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4},
    "Conv": _BOTH,
    "ConvTranspose": _BOTH,
    "Embedding": _WEIGHT,
    "GroupNormalization": _BOTH,
    "InstanceNormalization": _BOTH,
    "LayerNormalization": _BOTH,
    "Linear": _BOTH,
    "PRelu": _WEIGHT,
    "RMSNormalization": _WEIGHT,
}


def collapse(graph: ir.Graph) -> None:
    """Give a node the path of its module if it is the module's only node, and drop empty blocks; in place.

    Nodes that read weights of the block around them are marked: as layers of their own they would rename these weights.
    """
    nodes = list(graph)
    classes = traits.blocks(graph)
    taken = {node.name for node in nodes if node.name is not None}
    _separate_norms(nodes, classes, taken)
    layers = {_what_it_does(node) for node in nodes if node.meta.get(_LAYER)}
    inside = Counter(prefix for node in nodes for prefix in prefixes(traits.scope(node)))
    for node in nodes:
        scope = traits.scope(node)
        while scope and inside[scope] == 1 and scope not in taken and scope in classes and _is_layer_of(node, scope):
            become_module(node, scope, taken)
            scope = traits.scope(node)
        if traits.ROOT_LAYER in node.metadata_props and (node.meta.get(_LAYER) or _is_layer_of(node, "")):
            continue
        node.metadata_props.pop(traits.ROOT_LAYER, None)
        _enter_block(node, inside, taken)
        is_further_call = bool(traits.calls(node)) and _what_it_does(node) in layers
        if not (node.meta.get(_LAYER) or is_further_call or _is_layer_of(node, node.name or "")):
            traits.mark(node, traits.FREE_WEIGHTS)
    traits.set_blocks(graph, {p: kind for p, kind in classes.items() if p not in taken and (not p or inside[p])})


def _what_it_does(node: ir.Node) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The op and the weights of a node, which are the same for each call of a layer."""
    return op_key(node), tuple(_weights(node).items())


def _separate_norms(nodes: Sequence[ir.Node], classes: Mapping[str, str], taken: set[str]) -> None:
    """Move what a batch norm module computes besides (an activation) next to it; in place.

    The module can then be PyTorch's own layer. Only that updates the running statistics and has all keys of the state
    dict.
    """
    members: dict[str, list[ir.Node]] = {}
    for node in nodes:
        for prefix in prefixes(traits.scope(node)):
            members.setdefault(prefix, []).append(node)
    for node in nodes:
        scope = traits.scope(node)
        others = [n for n in members.get(scope, ()) if n is not node]
        if not is_op(node, "BatchNormalization") or scope not in classes or not _is_layer_of(node, scope):
            continue
        if any(v is not None and is_weight(v) for other in others for v in other.inputs):
            continue
        for other in others:
            leaf = (other.name or "")[len(scope) + 1 :].replace(".", "_")
            other.name = unique(f"{scope}_{leaf}", taken)
            traits.mark(other, traits.ANONYMOUS)


def _enter_block(node: ir.Node, inside: Mapping[str, int], taken: set[str]) -> None:
    """Move a layer that has the path of a block into that block; in place.

    A module that has a matrix of its own beside its child modules makes such a layer.
    """
    path = node.name or ""
    if node.meta.get(_LAYER) or not inside[path]:
        return
    move_into_block(node, taken)
    traits.mark(node, traits.ANONYMOUS)


def _is_layer_of(node: ir.Node, path: str) -> bool:
    """Whether a node's weights have the names and kinds of those of PyTorch's layer at that path."""
    slots = {slot: name for name, slot in _SLOTS.get(op_key(node), {}).items()}
    prefix = f"{path}." if path else ""
    for slot, name in _weights(node).items():
        if slot not in slots or name != f"{prefix}{slots[slot]}":
            return False
        is_buffer = traits.kind(node.inputs[slot]) == "buffer"  # type: ignore[arg-type]
        if is_buffer != slots[slot].startswith("running_"):
            return False
    return True
