"""Definitions: blocks that are the same up to literals are written once, with the literals as parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.blocks import Block, is_weight
from dlbridge.source.condense.merging import Group, Option, merge
from dlbridge.source.names import Names, class_name, identifier
from dlbridge.source.tree.code import LAYER, Code, Default, Literal, call, code, expression, literal_text
from dlbridge.source.tree.expr import Expr, IfElse, LayerHere, Var

#: Classes that say nothing of what they hold.
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "Module")


@dataclass(eq=False)
class Line:
    """An assignment: ``targets = code``.

    ``pattern`` unpacks (``"{0}, ({1}, {2})"``); ``hint`` suggests a name; ``member`` is what the code calls;
    ``label`` is what a person called the layer or block.
    """

    targets: list[ir.Value]
    code: Code
    pattern: str | None = None
    hint: str = "x"
    member: str | None = None
    label: str | None = None


@dataclass(eq=False)
class Member:
    """What a block makes once: its name (a dotted path, seen from the block), and the code that makes it.

    ``kind`` is "module", or what kind of a weight it is, as the printer of the framework tells them apart.
    """

    name: str
    new: Code
    kind: str = "module"


@dataclass(eq=False)
class Written:
    """A block in code: what it makes once, and what it computes."""

    block: Block
    members: list[Member] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def literals(self) -> list[Literal]:
        """All literals, in the order in which they are printed."""
        return [lit for member in self.members for lit in member.new.literals()] + [
            lit for line in self.lines for lit in line.code.literals()
        ]

    def key(self, weight_name: Callable[[ir.Value], str]) -> tuple:
        """What two blocks must share to be one definition."""
        numbers: dict[ir.Value, int] = {v: i for i, v in enumerate(self.block.inputs)}

        def value(v: ir.Value) -> int | str:
            if is_weight(v) and v not in numbers:
                return weight_name(v)
            return numbers.setdefault(v, len(numbers))

        def parts(fragment: Code) -> tuple:
            return fragment.key(value, lambda lit: (lit.keyword or type(lit.value).__name__, bool(lit.keyword)))

        used = {v for line in self.lines for v in line.code.values()} | set(self.block.outputs)

        def targets(line: Line) -> tuple:
            return tuple((numbers.setdefault(v, len(numbers)), v in used) for v in line.targets)

        return (
            tuple((member.name, member.kind, parts(member.new)) for member in self.members),
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
        flags: Step that some of the blocks lack -> the parameter that says whether a block has it.
    """

    name: str
    written: Written
    slots: dict[int, str] = field(default_factory=dict)
    flags: dict[Option, str] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """Parameters that have a default: keywords that have it wherever they are used, and flags."""
        literals = self.written.literals()
        uses: dict[str, list[Literal]] = {}
        for slot, name in self.slots.items():
            uses.setdefault(name, []).append(literals[slot])
        found = {
            name: used[0].default
            for name, used in uses.items()
            if all(u.keyword and literal_text(u.default) == literal_text(used[0].default) for u in used)
        }
        return found | dict.fromkeys(self.flags.values(), False)

    @property
    def parameters(self) -> list[str]:
        """All parameters, those with a default last."""
        names = dict.fromkeys([*self.slots.values(), *self.flags.values()])
        return sorted(names, key=lambda name: name in self.defaults)

    def signature(self, *required: str) -> list[str]:
        """The parameters as a header has them, ``required`` ones before those that have a default."""
        names, defaults = self.parameters, self.defaults
        positional = [name for name in names if name not in defaults]
        return [*positional, *required, *(f"{n}={literal_text(defaults[n])}" for n in names if n in defaults)]


@dataclass(frozen=True)
class OptionalSteps:
    """How optional steps are printed: what is made once is nothing, or an identity, where its step is left out.

    ``identity`` is the code of a layer that gives back its input; None where the framework has none.
    """

    definition: Definition
    identity: str | None = None

    def in_line(self, option: Option) -> bool:
        """Whether the choice is made where the step is computed, not (alone) where its layer is made."""
        reads = list(self.definition.written.lines[option.line].code.values())
        return option.member is None or self.identity is None or reads != [option.instead]

    def kept(self) -> set[str]:
        """Flags that are read where the steps are computed."""
        return {flag for option, flag in self.definition.flags.items() if self.in_line(option)}

    def member(self, index: int, new: Expr) -> Expr:
        """The code that makes member ``index``."""
        for option, flag in self.definition.flags.items():
            if index == option.member:
                instead = "None" if self.in_line(option) or self.identity is None else self.identity
                return IfElse(new, Var(flag), expression(instead))
        return new

    def line(
        self, index: int, code: Expr, name: Callable[[ir.Value], Expr], flag_of: Callable[[str], Expr] = Var
    ) -> Expr:
        """The code of line ``index``; ``flag_of`` is how the body reaches the flags."""
        for option, flag in self.definition.flags.items():
            if index == option.line and self.in_line(option):
                return IfElse(code, flag_of(flag), name(option.instead))
        return code


@dataclass(eq=False)
class Instance:
    """A block's definition, and what this block gives to its parameters."""

    definition: Definition
    arguments: dict[str, Any]

    def call(self, *inputs: Any, **keywords: Any) -> Code:
        """The definition's name, called: with inputs (a function's), the arguments, and keywords."""
        defaults = self.definition.defaults
        given = {n: self.arguments[n] for n in self.definition.parameters}
        positional = [Literal(value, name) for name, value in given.items() if name not in defaults]
        named = {name: Default(value, defaults[name]) for name, value in given.items() if name in defaults}
        return call(self.definition.name, *inputs, *positional, **named, **keywords)


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
    for level in _levels(root, name_of):
        named: dict[str, dict[tuple, list[Written]]] = {}
        for block in level:
            written = write(block, instances)
            if written is None:
                continue
            key = written.key(functools.partial(weight_name, block))
            named.setdefault(name_of(block), {}).setdefault(key, []).append(written)
        for name, alike in named.items():
            groups = merge(list(alike.values()), lambda w: w.key(lambda v: weight_name(w.block, v)))
            for group in groups:
                definition = _definition(taken.fresh(name), group)
                definitions.append(definition)
                instances |= _instances(definition, group)
    return definitions, instances[root]


def _definition(name: str, group: Group) -> Definition:
    members = {member.name.partition(".")[0] for member in group.full[0].members}
    definition = Definition(name, group.full[0], _parameters(group.rows(), members))
    names = Names(*definition.slots.values(), *members)
    lines = group.full[0].lines
    shared: dict[frozenset[int], str] = {}  # steps that the same blocks lack have one flag
    for option in sorted(group.options, key=lambda o: lines[o.line].label is None):
        lacking = frozenset(i for i, (_, missing) in enumerate(group.members()) if option in missing)
        if lacking not in shared:
            shared[lacking] = names.fresh(f"has_{identifier(lines[option.line].hint, 'step')}")
        definition.flags[option] = shared[lacking]
    return definition


def _instances(definition: Definition, group: Group) -> dict[Block, Instance]:
    found = {}
    for (written, lacking), row in zip(group.members(), group.rows(), strict=True):
        values: dict[str, Literal | None] = {}
        for slot, name in definition.slots.items():
            values[name] = values.get(name) or row[slot]
        defaults = definition.defaults
        arguments = {name: value.value if value else defaults.get(name) for name, value in values.items()}
        arguments |= {flag: option not in lacking for option, flag in definition.flags.items()}
        found[written.block] = Instance(definition, arguments)
    return found


def _levels(root: Block, name_of: Callable[[Block], str]) -> list[list[Block]]:
    """The blocks by height, those without inner blocks first; blocks of one name are together, to be compared."""
    height: dict[Block, int] = {}
    together: dict[str, int] = {}
    blocks = list(root.blocks())
    nested = {name_of(b) for b in blocks for inner in b.blocks() if inner is not b and name_of(inner) == name_of(b)}
    while True:
        before = dict(height)
        for block in blocks:
            own = 1 + max((height[s] for s in block.steps if isinstance(s, Block)), default=0)
            name = name_of(block)
            together[name] = max(own, together.get(name, 0))
            height[block] = own if name in nested else together[name]
        if height == before or max(height.values()) > len(blocks):
            break
    return [[b for b in blocks if height[b] == h] for h in sorted(set(height.values()))]


def _parameters(rows: list[list[Literal | None]], members: set[str]) -> dict[int, str]:
    """Which literals differ between the blocks, and a name for each, that no member has; equal columns share one.

    A column of an optional step has no literal in the blocks without it: any parameter that is equal in the others
    will do, if it means the same where one block alone has the step, or all have one literal.
    """
    names = Names("self", "x", "name", "dtype", "trainable", "input", "output", *members)
    by_column: dict[tuple[str | None, ...], tuple[str, str]] = {}
    slots: dict[int, str] = {}
    columns = list(enumerate(zip(*rows, strict=True)))
    for slot, column in sorted(columns, key=lambda c: None in c[1]):
        texts = tuple(literal_text(lit.value) if lit is not None else None for lit in column)
        first = next((lit for lit in column if lit is not None), None)
        hint = first.hint if first is not None else ""
        is_one = len(set(texts) - {None}) <= 1
        if is_one and (first is None or (first.keyword is not None and first.value == first.default)):
            continue
        fitting = (
            n for known, (n, meant) in by_column.items() if _fits(texts, known) and (meant == hint or not is_one)
        )
        same = next(fitting, None)
        if same is None and is_one:
            continue
        if same is None:
            same = names.fresh(identifier(hint, "value"))
            by_column[texts] = same, hint
        slots[slot] = same
    return dict(sorted(slots.items()))


def _fits(column: tuple[str | None, ...], known: tuple[str | None, ...]) -> bool:
    return all(a is None or a == b for a, b in zip(column, known, strict=True))


def block_class(graph: ir.Graph) -> Callable[[str], str]:
    """The class name of the block at a path: the one that the model has for it, else made from the path."""
    classes = traits.blocks(graph)

    def name(path: str) -> str:
        known = classes.get(path)
        if known and (known not in CONTAINERS or not path):
            return class_name(known)
        if not path:
            return class_name(graph.name or "Model")
        words = [p for p in path.split(".") if not p.isdigit()]
        return class_name(words[-1].rstrip("0123456789_") or words[-1]) if words else "Block"

    return name


def substitute_layer(fragment: Code, layer: Code) -> Code:
    """Put the layer where an ``Emit``'s code calls it."""
    return fragment.map(lambda node: layer if isinstance(node, LayerHere) else None)


__all__ = ["LAYER", "Definition", "Instance", "Line", "Written", "block_class", "code", "define", "substitute_layer"]
