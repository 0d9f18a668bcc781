"""Blocks that are lists of layers in the block around them: ``self.layers = [DecoderLayer(...) for i in range(3)]``."""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from dlbridge.frameworks.keras.printing.layer_loops import layer_loops
from dlbridge.ops import traits
from dlbridge.source.blocks import Block
from dlbridge.source.definitions import CONTAINERS
from dlbridge.source.names import is_index
from dlbridge.source.tree.expr import Comprehension, Expr, Items, Var
from dlbridge.source.tree.statements import Assign, For


def lists_of_layers(
    graph: ir.Graph, root: Block, dynamic: Collection[Block], makes_layer: Callable[[ir.Node], bool]
) -> dict[str, dict[str, int]]:
    """The blocks that are nothing but numbered layers, in no class of the author's own, and so a list of these.

    A function has no lists: where layers are joined, the items are called one by one. That is done with those of a list
    that the author goes through, whose items alone are of classes; a sequence stays a function, which others may share.

    Args:
        graph: The model's graph.
        root: Its blocks.
        dynamic: Those that are ``Layer`` subclasses.
        makes_layer: Whether the code of a node calls a layer that is made for it.

    Returns:
        Path of each -> path of each item -> its place in the list. An item of a list is no list.
    """
    classes = traits.blocks(graph)
    found: dict[str, dict[str, int]] = {}
    for block in root.blocks():
        for inner in (step for step in block.steps if isinstance(step, Block)):
            steps = {path_of(step): step for step in inner.steps}
            numbers = {inner.relative(path): path for path in steps}
            if block in dynamic:
                is_list = classes.get(inner.path, CONTAINERS[0]) in CONTAINERS
            else:
                is_list = inner.path not in classes and steps.keys() <= classes.keys()
            layers = all(isinstance(step, Block) or makes_layer(step) for step in steps.values())
            if is_list and layers and all(map(is_index, numbers)) and not found.keys() & steps.keys():
                ordered = sorted(numbers, key=int)
                found[inner.path] = {numbers[number]: place for place, number in enumerate(ordered)}
    return found


def path_of(step: ir.Node | Block) -> str:
    """The dotted path of a step of a block."""
    return step.path if isinstance(step, Block) else step.name or ""


def list_of(items: list[Expr]) -> Expr:
    """The code that makes a list of layers: a comprehension where they are the same but for their numbers."""
    rolled = layer_loops([Assign(Var("layer"), item) for item in items])
    loop = rolled[0]
    if len(rolled) == 1 and isinstance(loop, For):
        (made,) = loop.inside
        assert isinstance(made, Assign)
        return Comprehension("[", made.value, loop.variable, loop.over)
    return Items("[", tuple(items))
