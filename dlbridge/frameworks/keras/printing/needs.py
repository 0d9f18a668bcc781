"""Which code can stand only inside a ``Layer``, and so which blocks are printed as classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from dlbridge.frameworks.keras import helpers
from dlbridge.source.blocks import Block
from dlbridge.source.op import Emit
from dlbridge.source.printing import calls_of
from dlbridge.source.tree.code import Code
from dlbridge.source.tree.statements import Class, Def

#: Calls for what is not known where layers are joined: sizes, a branch, a loop.
_AT_RUN_TIME = frozenset({"ops.shape", "ops.cond", "ops.scan", "ops.while_loop", "loop_counted"})
#: Calls for the numbers in a tensor.
_NUMBERS = frozenset({"ops.convert_to_numpy", "ops.nonzero", "ops.unique"})
_RANDOM = ["keras", "random"]


def reads_numbers(calls: Collection[str]) -> bool:
    """Whether code with these calls reads the numbers in a tensor, so that it runs eagerly."""
    return not _NUMBERS.isdisjoint(calls)


def needs_layer(calls: Collection[str]) -> bool:
    """Whether code with these calls stands in a layer: where layers are joined, it would see no sizes or numbers, or
    draw the same random numbers again and again."""
    draws = any(call.split(".")[:2] == _RANDOM for call in calls)
    return draws or not _AT_RUN_TIME.isdisjoint(calls) or reads_numbers(calls)


def nodes_of(block: Block) -> list[ir.Node]:
    """The nodes of a block that stand in no block inside it."""
    return [step for step in block.steps if isinstance(step, ir.Node)]


class Classes:
    """Which blocks of a model are ``Layer`` subclasses, as they need what functions that join layers have not.

    Args:
        graph: The model's graph.
        root: Its blocks.
        emits: The code of its nodes.
        returned: What it returns.
        symbolic: The values that follow from an input.
        written: Functions of the file, which the code may call.

    Attributes:
        dynamic: Blocks that are ``Layer`` subclasses.
        eager: Those of them that run eagerly.
        subclassed: Whether the model is a ``keras.Model`` subclass: it has no inputs, or how many axes an output has is
            known only at run time.
        building: Blocks that build their own layers.
        wrapped: Whether all of the model is in one layer.
    """

    def __init__(
        self,
        graph: ir.Graph,
        root: Block,
        emits: Mapping[ir.Node, Emit],
        returned: Sequence[ir.Value | Code],
        symbolic: set[ir.Value],
        written: Sequence[Def | Class],
    ) -> None:
        self.root, self.emits, self.returned = root, emits, returned
        self.symbolic, self.written = symbolic, written
        self._called: dict[ir.Node, set[str]] = {}
        self.dynamic, self.eager = self._find()
        shapeless = root in self.eager and any(v.shape is None for v in graph.outputs)
        self.subclassed = shapeless or not graph.inputs
        self.building = {i for b in self.eager | ({root} if self.subclassed else set()) for i in b.blocks()}
        self.wrapped = root in self.dynamic

    def _find(self) -> tuple[set[Block], set[Block]]:
        """Blocks that are ``Layer`` subclasses, and those of them that run eagerly.

        A block is a subclass when it computes with sizes known only at run time, draws random numbers, reads the
        numbers in a tensor, or has layers with weights that see no input, and so are all blocks inside it. What reads
        numbers runs eagerly, and what holds it.
        """
        wanted = {block for block in self.root.blocks() if any(map(self._stands_in_layer, nodes_of(block)))}
        if not all(map(self._is_joined, self.returned)):
            wanted.add(self.root)
        while True:
            dynamic = {inner for block in wanted for inner in block.blocks()}
            eager = {block for block in dynamic if any(reads_numbers(self._calls(node)) for node in block.nodes())}
            eager = {block for block in dynamic if not eager.isdisjoint(block.blocks())}
            shapeless = {block for block in eager if any(value.shape is None for value in block.outputs)}
            around = {block for block in self.root.blocks() if not shapeless.isdisjoint(block.steps)}
            if around <= wanted:
                return dynamic, eager
            wanted |= around

    def _is_joined(self, returned: ir.Value | Code) -> bool:
        """Whether a model that joins layers can return this: it follows from an input, and is computed there."""
        if not isinstance(returned, Code):
            return returned in self.symbolic
        return not self.symbolic.isdisjoint(returned.values()) and not needs_layer(self.calls_of(returned))

    def _stands_in_layer(self, node: ir.Node) -> bool:
        return needs_layer(self._calls(node)) or self._is_loose(node)

    def _is_loose(self, node: ir.Node) -> bool:
        """Whether a node is a layer whose weights no functional model would find: nothing of the graph leads to it."""
        layer = self.emits[node].layer
        return layer is not None and bool(layer.weights) and not self.symbolic & set(node.outputs)

    def _calls(self, node: ir.Node) -> set[str]:
        """What the code of a node calls where layers are joined."""
        if node not in self._called:
            self._called[node] = self.calls_of(self._joined(node))
        return self._called[node]

    def calls_of(self, code: Code | Def) -> set[str]:
        """The dotted names of what code calls, itself or by functions of the file: helpers, bodies of control flow."""
        found, names = code.called(), code.names()
        bodies = [part for part in self.written if isinstance(part, Def) and part.name in names]
        return found.union(*map(self.calls_of, bodies), *(calls_of(helpers, name) for name in names))

    def _joined(self, node: ir.Node) -> Code:
        """The code of a node where layers are joined."""
        emit = self.emits[node]
        return emit.code if emit.module is None else emit.module.new
