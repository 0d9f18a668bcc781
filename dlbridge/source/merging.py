"""Merging: two kinds of a block that differ by one step become one definition with a flag.

ResNet's ``BasicBlock`` has a ``downsample`` in some places and none in others; the one without is the one with, less a
line, with that line's input in place of its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from dlbridge.source.code import Code, Literal

if TYPE_CHECKING:
    from dlbridge.source.definitions import Line, Written

Key = Callable[["Written"], tuple]


@dataclass(frozen=True)
class Option:
    """The step that some blocks lack.

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
    """Blocks that share a definition: ``full`` ones, and ``short`` ones that lack the optional step."""

    full: list[Written]
    short: list[Written]
    option: Option | None = None

    def rows(self) -> list[list[Literal | None]]:
        """The literals of each block, by slot; None where a short block lacks the step."""
        rows: list[list[Literal | None]] = [list(w.literals()) for w in self.full]
        for written in self.short:
            assert self.option is not None
            literals = iter(written.literals())
            rows.append([None if s in self.option.slots else next(literals) for s in range(len(rows[0]))])
        return rows

    def members(self) -> list[Written]:
        return [*self.full, *self.short]


def merge(groups: list[list[Written]], key: Key) -> list[Group]:
    """Join groups of equal blocks where one is another with a step more; each takes part in one pair at most."""
    pending = sorted(groups, key=lambda g: len(g[0].lines))
    found: list[Group] = []
    while pending:
        short = pending.pop(0)
        wanted = key(short[0])
        for full in pending:
            option = next((o for o, less in _reductions(full[0]) if key(less) == wanted), None)
            if option is not None:
                pending.remove(full)
                found.append(Group(full, short, option))
                break
        else:
            found.append(Group(short, []))
    return found


def _reductions(written: Written) -> Iterator[tuple[Option, Written]]:
    """The block less one of its lines, for each line and each value that can stand for its output."""
    for index, line in enumerate(written.lines):
        if len(line.targets) != 1 or line.pattern:
            continue
        member = _only_member(written, line)
        for instead in dict.fromkeys(v for v in line.code.values() if v.producer() is not None or v.is_graph_input()):
            yield (
                Option(index, member, instead, _slots(written, index, member)),
                _without(written, index, member, instead),
            )


def _only_member(written: Written, line: Line) -> int | None:
    """The member that this line calls and no other does."""
    for index, (name, _) in enumerate(written.members):
        calling = [other for other in written.lines if other.member == name]
        if calling == [line]:
            return index
    return None


def _slots(written: Written, line: int, member: int | None) -> frozenset[int]:
    slots, place = set(), 0
    for index, (_, new) in enumerate(written.members):
        count = len(list(new.literals()))
        if index == member:
            slots |= set(range(place, place + count))
        place += count
    for index, other in enumerate(written.lines):
        count = len(list(other.code.literals()))
        if index == line:
            slots |= set(range(place, place + count))
        place += count
    return frozenset(slots)


def _without(written: Written, line: int, member: int | None, instead: ir.Value) -> Written:
    gone = written.lines[line].targets[0]

    def swap(value: ir.Value) -> ir.Value:
        return instead if value is gone else value

    lines = [
        replace(other, code=Code(tuple(swap(p) if isinstance(p, ir.Value) else p for p in other.code.parts)))
        for index, other in enumerate(written.lines)
        if index != line
    ]
    block = replace(written.block, outputs=[swap(v) for v in written.block.outputs])
    members = [m for index, m in enumerate(written.members) if index != member]
    return replace(written, block=block, members=members, lines=lines)
