"""Nesting: a value that the next statement alone reads is written in its place there, as people write it.

``scores = self.query(x)`` and ``scores = scores.unflatten(2, (4, 16))`` are one chain, ``y = self.attention(x)`` and
``x = x + y`` one sum. A variable that goes through layer after layer stays a line for each of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence

from dlbridge.source.tree.document import INDENT
from dlbridge.source.tree.expr import (
    Arguments,
    Attr,
    BinOp,
    Call,
    Comprehension,
    Expr,
    IfElse,
    Index,
    Keyword,
    Lambda,
    Var,
    dotted,
)
from dlbridge.source.tree.statements import Assign, Do, For, Return, Statement

#: How deep calls may stand in calls.
MAX_DEPTH = 3
#: Names of what goes from layer to layer.
_FLOWING = ("x", "out")
#: Methods that say how a tensor is looked at.
_VIEWS = frozenset(
    {"reshape", "flatten", "unflatten", "transpose", "permute", "unsqueeze", "squeeze", "expand", "to", "swapaxes"}
)
#: Helpers that do so, and functions that say a tensor in another type or with one more axis.
_VIEWING = frozenset({"split_heads", "merge_heads", "ops.cast", "ops.expand_dims"})
#: Name of a variable -> the statements that read it or give it another value, in order: (index, whether it is read).
_Uses = Mapping[str, list[tuple[int, bool]]]
#: The indent of a body in a class.
_BODY = 2 * INDENT


def nest(
    statements: Sequence[Statement], goes_on: Callable[[str], bool] = lambda name: False, indent: str = _BODY
) -> list[Statement]:
    """The statements of a body of a class, with fewer variables.

    Args:
        statements: The statements.
        goes_on: Whether a variable is read behind them.
        indent: What their lines begin with.
    """
    found: list[Statement] = []
    uses = _uses(statements)
    for index, statement in enumerate(statements):

        def is_read_later(name: str, at: int = index) -> bool:
            return _is_read_after(uses, name, at) or goes_on(name)

        if isinstance(statement, For):
            again = _reads(statement)
            inside = nest(statement.inside, lambda name: name in again or is_read_later(name), indent + INDENT)  # noqa: B023
            statement = For(statement.variable, statement.over, tuple(inside))
        while found:
            joined = _joined(found[-1], statement, is_read_later, indent)
            if joined is None:
                break
            found.pop()
            statement = joined
        found.append(statement)
    return found


def _joined(
    made: Statement, reader: Statement, goes_on: Callable[[str], bool], indent: str = _BODY
) -> Statement | None:
    """One statement in the place of two; None where they are to stay. ``goes_on`` says whether a variable is read after
    them."""
    if not isinstance(made, Assign) or not isinstance(made.target, Var) or not isinstance(reader, (Assign, Do)):
        return None
    name, value = made.target.id, made.value
    if not isinstance(value, (Call, BinOp)) or not _is_read_once(name, reader, goes_on):
        return None
    if isinstance(reader.value, Arguments) and any(_is_named(each, name) for each in reader.value.items):
        return None  # of several results, each has a name
    if not _may_move(name, value, reader):
        return None
    new = reader.value.map(lambda node: value if isinstance(node, Var) and node.id == name else None)
    joined = Assign(reader.target, new) if isinstance(reader, Assign) else type(reader)(new)
    fits = len(joined.lines(indent)) <= len(reader.lines(indent))
    return joined if _depth(new) <= MAX_DEPTH and fits else None


def _may_move(name: str, value: Expr, reader: Assign | Do) -> bool:
    """Whether people would write a value where a statement reads it."""
    flows = name in _FLOWING
    if _is_view_of(reader.value, name) and not (flows and isinstance(value, BinOp)):
        return True
    if _is_operand(reader.value, name) and not flows:
        return True
    if type(reader) is Do or (isinstance(reader, Assign) and _is_named(reader.value, name)):
        return True
    if isinstance(reader, Assign) and name in reader.target.variables():
        return not flows and _is_view(value)  # else it goes on
    if _is_operand(reader.value, name):
        return True
    is_fresh = name not in value.variables()
    if flows:
        return is_fresh and _is_in_operand(reader.value, name)
    return is_fresh or _is_view(value)


def _is_read_once(name: str, reader: Assign | Do, goes_on: Callable[[str], bool]) -> bool:
    """Whether a variable is read at one place, before anything else is called there, and never again."""
    places = [node for node in _evaluated(reader.value) if isinstance(node, Call) or _is_named(node, name)]
    reads = sum(_is_named(node, name) for node in reader.value.walk())
    if reads != 1 or not places or not _is_named(places[0], name):
        return False
    if isinstance(reader, Assign) and not isinstance(reader.target, Var) and _stores_in(reader.target, name):
        return False
    if isinstance(reader, Return) or (isinstance(reader, Assign) and name in reader.target.variables()):
        return True
    return not goes_on(name)


def _evaluated(node: Expr) -> Iterator[Expr]:
    """The parts of an expression in the order in which they have their values; none of what is not always evaluated."""
    if isinstance(node, (Comprehension, Lambda, IfElse)):
        return
    for child in node.children():
        yield from _evaluated(child)
    yield node


def _uses(statements: Sequence[Statement]) -> _Uses:
    found: dict[str, list[tuple[int, bool]]] = {}
    for index, statement in enumerate(statements):
        read = _reads(statement)
        written = statement.target.variables() if isinstance(statement, Assign) else set()
        for name in read | written:
            found.setdefault(name, []).append((index, name in read))
    return found


def _reads(statement: Statement) -> set[str]:
    """The variables that a statement reads before it gives them another value."""
    if isinstance(statement, Assign):
        parts = (node for node in statement.target.walk() if isinstance(node, (Attr, Index)))
        return statement.value.variables().union(*(part.variables() for part in parts))
    found, written = set[str](), set[str]()
    for expression in statement.expressions():
        found |= expression.variables()
    for inner in statement.body():
        found |= _reads(inner) - written
        written |= inner.target.variables() if isinstance(inner, Assign) else set()
    return found


def _is_read_after(uses: _Uses, name: str, index: int) -> bool:
    """Whether a variable is read behind a statement before it gets another value."""
    places = uses.get(name, [])
    following = bisect.bisect_right(places, (index, True))
    return following < len(places) and places[following][1]


def _stores_in(target: Expr, name: str) -> bool:
    """Whether what is assigned to is a part of what a variable holds."""
    return any(isinstance(node, (Attr, Index)) and name in node.variables() for node in target.walk())


def _is_view_of(node: Expr, name: str) -> bool:
    """``name.reshape(...).transpose(...)``."""
    return not _is_named(node, name) and _is_named(_viewed(node), name)


def _is_view(node: Expr) -> bool:
    """Whether an expression is a chain of views of a variable."""
    return isinstance(node, Call) and isinstance(_viewed(node), Var)


def _viewed(node: Expr) -> Expr:
    """What is looked at by a chain of methods and of functions that are views."""
    while isinstance(node, Call):
        if isinstance(node.function, Attr) and node.function.name in _VIEWS:
            node = node.function.value
        elif dotted(node.function) in _VIEWING and node.arguments:
            node = node.arguments[0]
        else:
            break
    return node


def _is_operand(node: Expr, name: str) -> bool:
    return isinstance(node, BinOp) and (_is_named(node.left, name) or _is_named(node.right, name))


def _is_in_operand(node: Expr, name: str) -> bool:
    """Whether an operand of a sum or product is computed from a variable."""
    return any(isinstance(each, BinOp) and name in each.variables() for each in node.walk())


def _is_named(node: Expr, name: str) -> bool:
    return isinstance(node, Var) and node.id == name


def _depth(node: Expr) -> int:
    """How deep calls stand in the arguments of calls."""
    if isinstance(node, Call):
        inside = [each.value if isinstance(each, Keyword) else each for each in node.arguments]
        return max(_depth(node.function), 1 + max(map(_depth, inside), default=0))
    return max(map(_depth, node.children()), default=0)
