"""Emission: applies the writing rules to the nodes that are needed, and finds a block for weights without a layer."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.ops.names import unique
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block, is_weight
from dlbridge.source.names import identifier
from dlbridge.source.op import Emit, Op, Rules
from dlbridge.source.tree.code import Code, expression
from dlbridge.source.tree.expr import BinOp, Call, Val
from dlbridge.source.tree.expr_printer import text_of

#: Names that ``onnx_ir`` gives to values that have none.
_UNNAMED = re.compile(r"val_\d+")

ToTensor = Callable[[Elements, ir.Value], Code]


def emit_all(
    graph: ir.Graph,
    rules: Rules,
    arithmetic: Arithmetic,
    to_tensor: ToTensor,
    functions: Any = None,
    functional: bool = False,
) -> tuple[dict[ir.Node, Emit], list[ir.Value | Code]]:
    """What the rules make of each node that the outputs need; and what the model returns.

    Shape arithmetic is printed where it is used, so its nodes are left out; so are nodes that hand on what they read.

    Args:
        graph: The graph.
        rules: The writer's rules.
        arithmetic: Finds shape arithmetic.
        to_tensor: Makes a tensor of the elements of shape arithmetic.
        functions: Writes subgraphs and stand-ins (``source.functions.Functions``); None for a writer that does not.
        functional: Whether the graph is a subgraph, whose code has no layers.

    Raises:
        UnsupportedOpError: When nodes have no rule; all of them are named.
    """
    nodes = [n for n in graph if not all(arithmetic.is_computed(v) for v in n.outputs)]
    set_aside = {node for node in nodes if functions is not None and functions.takes(node)}
    rules.check([node for node in nodes if node not in set_aside])
    emits, refused = {}, []
    for node in nodes:
        op = Op(node, arithmetic, to_tensor, functions, functional)
        try:
            emits[node] = functions.stand_in(op) if node in set_aside else rules.emit(op)
        except UnsupportedOpError as error:
            if functions is not None and functions.partial:
                emits[node] = functions.stand_in(op, error.message)
            else:
                refused.append(error)
    if refused:
        raise refused[0] if len(refused) == 1 else _all_of(refused)
    aliases = _resolve_aliases(emits, set(graph.outputs))
    _negate_comparisons(emits)
    returned: list[ir.Value | Code] = []
    for value in graph.outputs:
        elements = arithmetic.elements(value) if arithmetic.is_computed(value) else None
        returned.append(aliases.get(value, value) if elements is None else to_tensor(elements, value))
    needed = _needed(emits, returned)
    _name_layers(graph, needed)
    return needed, returned


def _name_layers(graph: ir.Graph, emits: Mapping[ir.Node, Emit]) -> None:
    """Give nodes without a name of their own the name that their layer has among people."""
    taken = {node.name or "" for node in graph} | set(traits.blocks(graph))
    for node, emit in emits.items():
        called = None if emit.layer is None else emit.layer.called
        if called is not None and traits.is_anonymous(node):
            node.name = unique(".".join(filter(None, (traits.scope(node), called))), taken)


def _all_of(refused: list[UnsupportedOpError]) -> UnsupportedOpError:
    lines = "\n    ".join(f"{e.where}: {e.message}" if e.where else e.message for e in refused)
    return UnsupportedOpError(f"{len(refused)} nodes cannot be written:\n    {lines}")


def returned_values(returned: list[ir.Value | Code]) -> list[ir.Value]:
    """The values that are read in what the code returns."""
    return list(dict.fromkeys(v for r in returned for v in (r.values() if isinstance(r, Code) else [r])))


def _resolve_aliases(emits: dict[ir.Node, Emit], outputs: set[ir.Value]) -> dict[ir.Value, ir.Value]:
    """Leave out nodes whose code is a value as it stands; what reads them reads that value. Gives these values.

    A weight that is an output keeps its line: only a line makes a weight known to the code.
    """
    aliases: dict[ir.Value, ir.Value] = {}
    for node, emit in list(emits.items()):
        emit.code = emit.code.substituted(aliases.get)
        value = emit.code.value if isinstance(emit.code, Val) else None
        if value is None or emit.layer is not None or emit.targets is not None or len(node.outputs) != 1:
            continue
        if not (node.outputs[0] in outputs and is_weight(value)):
            aliases[node.outputs[0]] = value
            del emits[node]
    return aliases


def _negate_comparisons(emits: Mapping[ir.Node, Emit]) -> None:
    """``~(a == b)``, of a comparison that nothing else reads, is ``a != b``."""
    for node, emit in emits.items():
        compared = node.inputs[0] if is_op(node, "Not") else None
        maker = compared.producer() if compared is not None and len(compared.uses()) == 1 else None
        if maker is not None and maker in emits and is_op(maker, "Equal") and not compared.is_graph_output():  # type: ignore[union-attr]
            emit.code = _negation(emits[maker].code) or emit.code


def _negation(comparison: Code) -> Code | None:
    """The code that says the opposite of a comparison for equality."""
    match comparison:
        case BinOp(left, "==", right):
            return BinOp(left, "!=", right)
        case Call(function, arguments) if text_of(function) == "ops.equal":
            return Call(expression("ops.not_equal"), arguments)
    return None


def _needed(emits: Mapping[ir.Node, Emit], returned: list[ir.Value | Code]) -> dict[ir.Node, Emit]:
    pending = returned_values(returned)
    live: set[ir.Node] = set()
    while pending:
        node = pending.pop().producer()
        if node is not None and node in emits and node not in live:
            live.add(node)
            pending.extend(emits[node].code.values())
    return {node: emit for node, emit in emits.items() if node in live}


#: Attributes that layers compute with where they have them: a convolution that is made without a bias adds one that it
#: is given later.
_USED_BY_LAYERS = frozenset(("weight", "bias", "kernel", "scale", "running_mean", "running_var"))


def weight_paths(
    graph: ir.Graph,
    root: Block,
    emits: Mapping[ir.Node, Emit],
    spelled: Callable[[str], str],
    *,
    reachable: bool = False,
) -> dict[ir.Value, str]:
    """The dotted path of each weight that code reads by name, or returns.

    A parameter or buffer lives where its name says, but beside a layer that would use it too. A constant lives in the
    innermost block that holds all its users, and so does, if ``reachable``, every weight that some of its users could
    not reach where its name says. ``spelled`` gives a path as the framework says it (``source.paths``).
    """
    users: dict[ir.Value, list[ir.Node]] = {}
    for node, emit in emits.items():
        for value in emit.code.values():
            if is_weight(value):
                users.setdefault(value, []).append(node)
    for value in graph.outputs:
        if is_weight(value):
            users.setdefault(value, [])
    found: dict[ir.Value, str] = {}
    slots = {node.name or "": emit.layer.weights for node, emit in emits.items() if emit.layer is not None}
    taken = _paths(graph, root, emits)
    taken |= set(map(spelled, taken))
    for value, nodes in users.items():
        name = value.name or "constant"
        if traits.kind(value) == "constant":
            block = _innermost(root, nodes)
            # Without its number: blocks that are the same but for their constants have these under one name.
            called = traits.variable(value) or (_role(value) if _UNNAMED.fullmatch(name) else name.rpartition(".")[2])
            leaf = re.sub(r"(_?\d+)+$|\W", "", called, flags=re.ASCII).strip("_") or "constant"
            leaf = f"{leaf}_" if keyword.iskeyword(leaf) else leaf
            name = spelled(unique(f"{block.path}.{leaf}" if block.path else leaf, taken))
        else:
            owner, _, leaf = name.rpartition(".")
            if leaf in _USED_BY_LAYERS and leaf not in slots.get(owner, (leaf,)):
                name = unique(f"{owner}_{leaf}", taken)
            name = spelled(name)
            reader = _innermost(root, nodes) if reachable else None
            if reader and any(b.holds(name) and not b.holds(f"{reader.path}.") for b in root.blocks()):
                leaf = identifier(reader.relative(name))
                name = f"{reader.path}.{leaf}" if reader.path else leaf
        found[value] = name
    return found


def _paths(graph: ir.Graph, root: Block, emits: Mapping[ir.Node, Emit]) -> set[str]:
    """The dotted paths of what blocks hold: weights, layers, other blocks."""
    found = {name for name, value in graph.initializers.items() if traits.kind(value) != "constant"}
    found |= {node.name or "" for node, emit in emits.items() if emit.layer is not None or emit.module is not None}
    found |= {block.path for block in root.blocks()}
    for path in list(found):
        while path:
            found.add(path)
            path = path.rpartition(".")[0]
    return found


def _role(value: ir.Value) -> str:
    """What the standard calls the input that a constant is: ``indices``; empty where that is a letter."""
    for use in value.uses():
        op = op_key(use.node)
        if onnx.defs.has(op):
            inputs = onnx.defs.get_schema(op).inputs
            name = inputs[min(use.idx, len(inputs) - 1)].name
            return name if len(name) > 1 else ""
    return ""


def weights_by_block(root: Block, found: Mapping[ir.Value, str]) -> dict[Block, list[ir.Value]]:
    """The weights that code reads by name, by the innermost block on the way to where they live."""
    by_path = {block.path: block for block in root.blocks()}
    weights: dict[Block, list[ir.Value]] = {}
    for value, home in found.items():
        path = home.rpartition(".")[0]
        while path not in by_path:
            path = path.rpartition(".")[0]
        weights.setdefault(by_path[path], []).append(value)
    return weights


def pass_weights(
    root: Block,
    emits: Mapping[ir.Node, Emit],
    found: Mapping[ir.Value, str],
    is_printed: Callable[[ir.Value], bool] = lambda value: False,
) -> None:
    """A weight that a block reads and that lives outside it comes in as one more input, but one that is printed."""
    for block in root.blocks():
        read = {v: None for n in block.nodes() for v in emits[n].code.values() if is_weight(v)}
        block.inputs += [v for v in read if not block.holds(found[v]) and not is_printed(v)]


def _innermost(root: Block, nodes: list[ir.Node]) -> Block:
    holders = [b for b in root.blocks() if set(nodes) <= set(b.nodes())]
    return min(holders, key=lambda b: len(list(b.nodes())))
