"""Merging: kinds of a block that differ by a few steps become one definition with flags.

ResNet's ``BasicBlock`` has a ``downsample`` in some places and none in others; the one without is the one with, less a
line, with that line's input in place of its output.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from dlbridge.source.tree.code import Literal

if TYPE_CHECKING:
    from dlbridge.source.definitions import Line, Written

Key = Callable[["Written"], tuple]

#: How many steps a block may lack, and how many ways to leave them out are tried.
MAX_STEPS, MAX_TRIALS = 3, 200


@dataclass(frozen=True)
class Option:
    """A step that some blocks lack.

    Attributes:
        line: Its place in ``written.lines``.
        member: The place in ``written.members`` of what it calls, if it alone calls it.
        instead: The value that stands for the step's output where the step is left out.
        slots: Places of its literals in ``written.literals()``.
    """

    line: int
    member: int | None
    instead: ir.Value
    slots: frozenset[int]


@dataclass
class Group:
    """Blocks that share a definition: ``full`` ones, and ``short`` ones with the steps that they lack."""

    full: list[Written]
    short: list[tuple[Written, tuple[Option, ...]]] = field(default_factory=list)

    @property
    def options(self) -> list[Option]:
        """All steps that some block lacks."""
        found = dict.fromkeys(option for _, lacking in self.short for option in lacking)
        return sorted(found, key=lambda option: option.line)

    def members(self) -> list[tuple[Written, tuple[Option, ...]]]:
        """Every block with the steps that it lacks."""
        return [*((written, ()) for written in self.full), *self.short]

    def rows(self) -> list[list[Literal | None]]:
        """The literals of each block, by slot; None where a block lacks the step."""
        count = len(self.full[0].literals())
        rows: list[list[Literal | None]] = []
        for written, lacking in self.members():
            absent = frozenset[int]().union(*(option.slots for option in lacking))
            literals = iter(written.literals())
            rows.append([None if slot in absent else next(literals) for slot in range(count)])
        return rows


def merge(groups: list[list[Written]], key: Key) -> list[Group]:
    """Join groups of equal blocks that are another group's with some steps left out."""
    pending = sorted(groups, key=lambda g: -len(g[0].lines))
    found: list[Group] = []
    while pending:
        group = Group(pending.pop(0))
        for shorter in list(pending):
            lacking = _lacking(group, shorter[0], key)
            if lacking is not None:
                pending.remove(shorter)
                group.short += [(written, lacking) for written in shorter]
        found.append(group)
    return found


def _lacking(group: Group, short: Written, key: Key) -> tuple[Option, ...] | None:
    """The steps that make the group's full block the short one when left out; None when there are no such steps."""
    full, wanted = group.full[0], key(short)
    known = {option.line: option for option in group.options}
    for options, less in itertools.islice(_reductions(full, short), MAX_TRIALS):
        fits = all(known.get(option.line, option) == option for option in options)
        if fits and key(less) == wanted:
            return options
    return None


def _reductions(full: Written, short: Written) -> Iterator[tuple[tuple[Option, ...], Written]]:
    """The full block less as many lines as the short one has fewer, in each way that leaves the same lines."""
    count = len(full.lines) - len(short.lines)
    if not 0 < count <= MAX_STEPS:
        return
    more = Counter(map(_signature, full.lines)) - Counter(map(_signature, short.lines))
    lines = [index for index, line in enumerate(full.lines) if _signature(line) in more]
    for chosen in itertools.combinations(reversed(lines), count):
        yield from _without_lines(full, full, chosen)


def _signature(line: Line) -> tuple:
    """What a line says, whatever the variables."""
    return line.code.key(lambda value: "value", lambda literal: literal.keyword or "literal")


def _without_lines(
    full: Written, written: Written, lines: tuple[int, ...]
) -> Iterator[tuple[tuple[Option, ...], Written]]:
    """Leave out lines, the last first, so that what stands for a line's output is a value of the full block."""
    if not lines:
        yield (), written
        return
    index, *rest = lines
    line = full.lines[index]
    if len(line.targets) != 1 or line.pattern:
        return
    member = _only_member(full, line)
    for instead in dict.fromkeys(v for v in line.code.values() if v.producer() is not None or v.is_graph_input()):
        option = Option(index, member, instead, _slots(full, index, member))
        name = None if member is None else full.members[member].name
        for others, less in _without_lines(full, _without(written, line, name, instead), tuple(rest)):
            yield (option, *others), less


def _only_member(written: Written, line: Line) -> int | None:
    """The member that this line calls and no other does."""
    for index, made in enumerate(written.members):
        calling = [other for other in written.lines if other.member == made.name]
        if calling == [line]:
            return index
    return None


def _slots(written: Written, line: int, member: int | None) -> frozenset[int]:
    slots, place = set(), 0
    for index, made in enumerate(written.members):
        count = len(list(made.new.literals()))
        if index == member:
            slots |= set(range(place, place + count))
        place += count
    for index, other in enumerate(written.lines):
        count = len(list(other.code.literals()))
        if index == line:
            slots |= set(range(place, place + count))
        place += count
    return frozenset(slots)


def _without(written: Written, line: Line, member: str | None, instead: ir.Value) -> Written:
    gone = line.targets[0]

    def swap(value: ir.Value) -> ir.Value:
        return instead if value is gone else value

    lines = [
        replace(other, code=other.code.substituted(swap)) for other in written.lines if other.targets[0] is not gone
    ]
    block = replace(written.block, outputs=[swap(v) for v in written.block.outputs])
    return replace(written, block=block, members=[m for m in written.members if m.name != member], lines=lines)
