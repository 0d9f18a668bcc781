"""Definitions: blocks that are the same up to literals are written once, with the literals as parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.blocks import Block, is_weight
from dlbridge.source.code import Code, Literal, call, code, literal_text
from dlbridge.source.names import Names, class_name, identifier

#: In the code of an ``Emit``, the place of the layer that is called.
LAYER = "<layer>"


@dataclass(eq=False)
class Line:
    """An assignment: ``targets = code``. ``pattern`` unpacks (``"{0}, ({1}, {2})"``); ``hint`` suggests a name."""

    targets: list[ir.Value]
    code: Code
    pattern: str | None = None
    hint: str = "x"


@dataclass(eq=False)
class Written:
    """A block in code: what it makes once (attribute -> code), and what it computes."""

    block: Block
    members: list[tuple[str, Code]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def literals(self) -> list[Literal]:
        """All literals, in the order in which they are printed."""
        return [lit for _, new in self.members for lit in new.literals()] + [
            lit for line in self.lines for lit in line.code.literals()
        ]

    def key(self, weight_name: Callable[[ir.Value], str]) -> tuple:
        """What two blocks must share to be one definition."""
        numbers: dict[ir.Value, int] = {v: i for i, v in enumerate(self.block.inputs)}

        def parts(fragment: Code) -> tuple:
            return tuple(
                p
                if isinstance(p, str)
                else type(p.value).__name__
                if isinstance(p, Literal)
                else weight_name(p)
                if is_weight(p)
                else numbers.setdefault(p, len(numbers))
                for p in fragment.parts
            )

        def targets(line: Line) -> tuple:
            return tuple((numbers.setdefault(v, len(numbers)), bool(v.uses())) for v in line.targets)

        return (
            tuple((name, parts(new)) for name, new in self.members),
            tuple((line.pattern, parts(line.code), targets(line)) for line in self.lines),
            len(self.block.inputs),
            tuple(numbers.get(v, -1) for v in self.block.outputs),
        )


@dataclass(eq=False)
class Definition:
    """A class or function that one or more blocks share.

    Attributes:
        name: The class's or function's name.
        written: One of the blocks, which stands for all.
        slots: Place of a literal in ``written.literals()`` -> the parameter that it became.
    """

    name: str
    written: Written
    slots: dict[int, str] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        return list(dict.fromkeys(self.slots.values()))


@dataclass(eq=False)
class Instance:
    """A block's definition, and the literals that this block gives to its parameters."""

    definition: Definition
    arguments: list[Literal]

    def new(self) -> Code:
        return call(self.definition.name, *self.arguments)


def define(
    root: Block,
    write: Callable[[Block, Mapping[Block, Instance]], Written | None],
    weight_name: Callable[[Block, ir.Value], str],
    name_of: Callable[[Block], str],
    taken: Names,
) -> tuple[list[Definition], Instance]:
    """Write all blocks of a tree, inner ones first, and make one definition of those that are the same.

    Args:
        root: The tree.
        write: Writes one block, given the instances of the blocks inside it; None when it needs no definition.
        weight_name: How a block's code names a weight.
        name_of: The name that a block would like for its definition.
        taken: Names that a definition must not have.

    Returns:
        The definitions, each after those that it uses; and the root's instance (its definition is the last).
    """
    definitions: list[Definition] = []
    instances: dict[Block, Instance] = {}
    for level in _levels(root):
        alike: dict[tuple, list[Written]] = {}
        for block in level:
            written = write(block, instances)
            if written is None:
                continue
            alike.setdefault(written.key(lambda v, b=block: weight_name(b, v)), []).append(written)
        for group in alike.values():
            definition = Definition(taken.fresh(name_of(group[0].block)), group[0])
            definition.slots = _parameters([w.literals() for w in group])
            definitions.append(definition)
            for written in group:
                values = {name: lit for (slot, name), lit in _slot_literals(definition, written)}
                arguments = [Literal(values[name].value, name) for name in definition.parameters]
                instances[written.block] = Instance(definition, arguments)
    return definitions, instances[root]


def _slot_literals(definition: Definition, written: Written) -> list[tuple[tuple[int, str], Literal]]:
    literals = written.literals()
    return [((slot, name), literals[slot]) for slot, name in definition.slots.items()]


def _levels(root: Block) -> list[list[Block]]:
    """The blocks by height: those without inner blocks first."""
    height: dict[Block, int] = {}
    for block in root.blocks():
        height[block] = 1 + max((height[s] for s in block.steps if isinstance(s, Block)), default=0)
    return [[b for b in height if height[b] == h] for h in range(1, height[root] + 1)]


def _parameters(rows: list[list[Literal]]) -> dict[int, str]:
    """Which literals differ between the blocks, and a name for each; equal columns share one."""
    names = Names("self", "x", "name")
    by_column: dict[tuple[str, ...], str] = {}
    slots: dict[int, str] = {}
    for slot, column in enumerate(zip(*rows, strict=True)):
        texts = tuple(literal_text(lit.value) for lit in column)
        if len(set(texts)) > 1:
            if texts not in by_column:
                by_column[texts] = names.fresh(identifier(column[0].hint, "value"))
            slots[slot] = by_column[texts]
    return slots


def block_class(graph: ir.Graph) -> Callable[[Block], str]:
    """The class name of a block: the one that the model has for it, else made from its path."""
    classes = traits.blocks(graph)

    def name(block: Block) -> str:
        known = classes.get(block.path)
        if known:
            return class_name(known)
        if not block.path:
            return class_name(graph.name or "Model")
        words = [p for p in block.path.split(".") if not p.isdigit()]
        return class_name(words[-1].rstrip("0123456789_") or words[-1]) if words else "Block"

    return name


# --- names of variables --------------------------------------------------------------------------------------------


def name_values(
    written: Written,
    inputs: Mapping[ir.Value, str],
    kept: frozenset[str] = frozenset(),
    reserved: Iterable[str] = (),
) -> dict[ir.Value, str]:
    """A variable's name for each value of a block: a value takes over the name of one that it is made of and ends.

    ``kept`` names are read again after the block and stay as they are; ``reserved`` ones are given to no variable,
    which would hide a function that the block calls.
    """
    last_read: dict[ir.Value, int] = {}
    for index, line in enumerate(written.lines):
        for value in line.code.values():
            last_read[value] = index
    for value in written.block.outputs:
        last_read[value] = len(written.lines)
    names = dict(inputs)
    alive = set(inputs.values())
    for index, line in enumerate(written.lines):
        ending = [names[v] for v in line.code.values() if v in names and last_read[v] == index]
        for value in set(line.code.values()):
            if (
                value in names
                and last_read[value] == index
                and names[value] not in kept | _read_after(names, last_read, index)
            ):
                alive.discard(names[value])
        for target in line.targets:
            if target not in last_read:
                names[target] = "_"
                continue
            reusable = [n for n in ending if n not in alive]
            fresh = line.hint if "x" in alive else "x"
            names[target] = reusable[0] if reusable else Names(*alive, *reserved).fresh(fresh)
            alive.add(names[target])
    return names


def _read_after(names: Mapping[ir.Value, str], last_read: Mapping[ir.Value, int], index: int) -> set[str]:
    """Names of values that are read after line ``index``."""
    return {name for value, name in names.items() if last_read.get(value, -1) > index}


def hint(node: ir.Node) -> str:
    """A variable's name from a node's: ``layer1.0.conv1`` -> ``conv``; for functions, ``out``."""
    last = (node.name or "").rpartition(".")[2].rstrip("0123456789").rstrip("_")
    return identifier(last.lower(), "out") if last else "out"


def substitute_layer(fragment: Code, layer: Code) -> Code:
    """Put the layer where an ``Emit``'s code calls it."""
    pieces: list[Code] = []
    for part in fragment.parts:
        if isinstance(part, str) and LAYER in part:
            before, _, after = part.partition(LAYER)
            pieces += [Code((before,)), layer, Code((after,))]
        else:
            pieces.append(Code((part,)))
    return Code(tuple(p for piece in pieces for p in piece.parts))


__all__ = ["LAYER", "Definition", "Instance", "Line", "Written", "block_class", "code", "define", "hint", "name_values"]
