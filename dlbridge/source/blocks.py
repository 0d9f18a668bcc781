"""Blocks: the nodes of a graph in the tree of the modules that they stand in, each block in one piece.

The tree follows the dotted names of the nodes. A block whose nodes cannot be computed in one go (something outside
needs one of them and is needed by another) is dissolved into the block around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.op import Emit


@dataclass(eq=False)
class Block:
    """A block: nodes and smaller blocks in the order in which they run.

    Attributes:
        path: Its dotted path; "" for the whole model.
        steps: Nodes and blocks.
        inputs: Values from outside that it reads (weights are not among them).
        outputs: Values that are read outside, or leave the model.
    """

    path: str
    steps: list[ir.Node | Block] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)

    def nodes(self) -> Iterable[ir.Node]:
        for step in self.steps:
            if isinstance(step, Block):
                yield from step.nodes()
            else:
                yield step

    def blocks(self) -> Iterable[Block]:
        """All blocks in it, inner ones first, itself last."""
        for step in self.steps:
            if isinstance(step, Block):
                yield from step.blocks()
        yield self

    def relative(self, name: str) -> str:
        """A dotted name as seen from this block."""
        return name[len(self.path) + 1 :] if self.path and name.startswith(self.path + ".") else name

    def holds(self, name: str) -> bool:
        return not self.path or name.startswith(self.path + ".")


def is_weight(value: ir.Value) -> bool:
    return value.is_initializer() or (value.producer() is None and value.const_value is not None)


def build(
    graph: ir.Graph, emits: Mapping[ir.Node, Emit], returned: list[ir.Value], dissolved: Iterable[str] = ()
) -> Block:
    """The tree of the nodes in ``emits``; a node reads what its code reads.

    Args:
        graph: The graph.
        emits: What the rules made of its nodes.
        returned: The values that the code reads in what it returns.
        dissolved: Blocks that are not in the tree.
    """
    order = [n for n in graph if n in emits]
    reads = {n: [v for v in emits[n].code.values() if not is_weight(v)] for n in order}
    root = _arrange("", order, reads, set(dissolved))
    _find_interfaces(root, reads, set(returned))
    root.inputs = [v for v in graph.inputs if not v.is_initializer()]
    root.outputs = list(returned)
    return root


def _arrange(path: str, nodes: list[ir.Node], reads: Mapping[ir.Node, list[ir.Value]], dissolved: set[str]) -> Block:
    while True:
        groups = _group(path, nodes, dissolved)
        order, cyclic = _sort(groups, reads)
        if not cyclic:
            break
        dissolved = dissolved | cyclic
    block = Block(path)
    for key in order:
        members = groups[key]
        block.steps.append(_arrange(key, members, reads, dissolved) if isinstance(key, str) else members[0])
    return block


def _group(path: str, nodes: list[ir.Node], dissolved: set[str]) -> dict[ir.Node | str, list[ir.Node]]:
    """The nodes by the child block that they stand in; a node that stands in none is by itself."""
    groups: dict[ir.Node | str, list[ir.Node]] = {}
    for node in nodes:
        child = _child(path, traits.scope(node), dissolved)
        groups.setdefault(child if child is not None else node, []).append(node)
    return groups


def _child(path: str, scope: str, dissolved: set[str]) -> str | None:
    """The block right under ``path`` on the way to ``scope``; below a dissolved block, the next one down."""
    if scope == path or (path and not scope.startswith(path + ".")):
        return None
    parts = scope[len(path) + 1 if path else 0 :].split(".")
    for length in range(1, len(parts) + 1):
        child = ".".join(([path] if path else []) + parts[:length])
        if child not in dissolved:
            return child
    return None


def _sort(
    groups: Mapping[ir.Node | str, list[ir.Node]], reads: Mapping[ir.Node, list[ir.Value]]
) -> tuple[list[ir.Node | str], set[str]]:
    """Order in which the groups can run, as near to the given one as may be; and the blocks on a cycle, if any."""
    home = {node: key for key, members in groups.items() for node in members}
    needs: dict[ir.Node | str, set[ir.Node | str]] = {
        key: {home[p] for n in members for v in reads[n] if (p := v.producer()) in home and home[p] != key}  # type: ignore[index]
        for key, members in groups.items()
    }
    order: list[ir.Node | str] = []
    done: set[ir.Node | str] = set()
    pending = list(groups)
    while pending:
        ready = next((k for k in pending if needs[k] <= done), None)
        if ready is None:
            return order, _on_cycle(pending, needs)
        pending.remove(ready)
        done.add(ready)
        order.append(ready)
    return order, set()


def _on_cycle(pending: list[ir.Node | str], needs: Mapping[ir.Node | str, set[ir.Node | str]]) -> set[str]:
    """The blocks among ``pending`` that reach themselves."""
    found = set()
    for key in pending:
        if not isinstance(key, str):
            continue
        seen: set[ir.Node | str] = set()
        stack = list(needs[key])
        while stack:
            other = stack.pop()
            if other not in seen:
                seen.add(other)
                stack.extend(needs[other])
        if key in seen:
            found.add(key)
    return found


def _find_interfaces(root: Block, reads: Mapping[ir.Node, list[ir.Value]], returned: set[ir.Value]) -> None:
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node, values in reads.items():
        for value in values:
            readers.setdefault(value, []).append(node)
    for block in root.blocks():
        inside = set(block.nodes())
        inputs: dict[ir.Value, None] = {}
        outputs: dict[ir.Value, None] = {}
        for node in block.nodes():
            for value in reads[node]:
                if value.producer() not in inside:
                    inputs[value] = None
            for value in node.outputs:
                if value in returned or any(r not in inside for r in readers.get(value, ())):
                    outputs[value] = None
        block.inputs, block.outputs = list(inputs), list(outputs)
