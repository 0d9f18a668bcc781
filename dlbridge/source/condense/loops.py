"""Loops: statements that are the same again and again, but for a part that counts, become a ``for``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlbridge.source.tree.expr import Expr, Name
from dlbridge.source.tree.statements import Assign, For, Statement

#: How many statements the body of a loop may have.
MAX_BODY = 4
_HERE = Name("<here>")


@dataclass(frozen=True)
class Loop:
    """A loop over as many of the parts as it takes: what it goes over, and what stands for the part in its body."""

    variable: str
    over: Expr
    part: Expr
    count: int


def roll(
    statements: list[Statement], counted: Callable[[Expr], Sequence[Expr]], loop: Callable[[list[Expr]], Loop | None]
) -> list[Statement]:
    """The statements with loops.

    Args:
        statements: Assignments; what else there is stands in no loop.
        counted: What differs between the rounds of a loop, in the value of an assignment; once in each round.
        loop: From the parts of rounds that are the same otherwise, what loops over the first of them.
    """
    out: list[Statement] = []
    index = 0
    while index < len(statements):
        for size in range(1, MAX_BODY + 1):
            parts = _parts(statements[index:], size, counted)
            found = loop(parts) if len(parts) > 1 else None
            if found is not None:
                inside = tuple(_with_part(s, parts[0], found.part) for s in statements[index : index + size])
                out.append(For(found.variable, found.over, inside))
                index += size * found.count
                break
        else:
            out.append(statements[index])
            index += 1
    return out


def _parts(statements: list[Statement], size: int, counted: Callable[[Expr], Sequence[Expr]]) -> list[Expr]:
    """What counts, in as many rounds of ``size`` statements as are the same otherwise."""
    parts: list[Expr] = []
    first = None
    for start in range(0, len(statements) - size + 1, size):
        made = [s for s in statements[start : start + size] if isinstance(s, Assign)]
        found = [part for s in made for part in counted(s.value)]
        if len(made) != size or len(found) != 1:
            break
        rest = [(s.target.key(), _exchanged(s.value, found[0], _HERE).key()) for s in made]
        if rest != (first or rest):
            break
        parts += found
        first = rest
    return parts


def _with_part(statement: Statement, old: Expr, new: Expr) -> Statement:
    assert isinstance(statement, Assign)
    return Assign(statement.target, _exchanged(statement.value, old, new))


def _exchanged(tree: Expr, old: Expr, new: Expr) -> Expr:
    return tree.map(lambda node: new if node is old else None)
