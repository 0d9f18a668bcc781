"""Calls of all modules of a list, or of all modules that there are, one after the other, become a loop."""

from __future__ import annotations

from dlbridge.source.condense.layer_variables import one_variable
from dlbridge.source.condense.loops import Loop, roll
from dlbridge.source.names import Names, identifier, is_index
from dlbridge.source.tree.code import expression
from dlbridge.source.tree.expr import Attr, Call, Const, Expr, Index, Slice, Var, dotted
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.statements import Statement, words

#: With fewer children than this, call each by name instead of looping over all of them.
MIN_CHILDREN = 4
_DIGITS = "0123456789"


def module_loops(statements: list[Statement], members: list[str], children: str | None) -> list[Statement]:
    """The statements of a body with loops.

    Args:
        statements: The statements.
        members: The names of all that the class makes, in that order.
        children: An expression of all modules, as in ``Dialect``.
    """
    statements = one_variable(statements, _list_called)
    taken = words(statements)

    def over_list(first: Index, texts: list[str]) -> Loop | None:
        over = text_of(first.value)
        name = over.removeprefix("self.")
        if any(m.startswith(f"{name}.") and not is_index(m[len(name) + 1 :].partition(".")[0]) for m in members):
            return None  # the list would go through what has a name too
        singular = name.rpartition(".")[2].rstrip("s_0123456789")
        word = singular if singular and singular != name.rpartition(".")[2] else "layer"
        count, start = _length(members, name), _number(first)
        wanted = [f"{over}[{i}]" for i in range(start, count)]
        rest = first.value if start == 0 else Index(first.value, Slice(Const(start)))
        return made(word, rest, wanted, count - start, texts)

    def over_children(first: Attr, texts: list[str]) -> Loop | None:
        word = first.name.rstrip(_DIGITS)
        wanted = [f"self.{m}" for m in members if m.rstrip(_DIGITS) == word]
        if children is None or len(wanted) < MIN_CHILDREN:
            return None
        return made(word, expression(children), wanted, len(members), texts)

    def made(word: str, over: Expr, wanted: list[str], count: int, texts: list[str]) -> Loop | None:
        if count < 2 or len(wanted) != count or texts[:count] != wanted:
            return None  # a module that is called again and again is no list
        word = identifier(word) if identifier(word) not in taken else Names(*taken).fresh("layer")
        return Loop(word, over, Var(word), count)

    def loop(parts: list[Expr]) -> Loop | None:
        first, texts = parts[0], [text_of(part) for part in parts]
        if isinstance(first, Index):
            return over_list(first, texts)
        return over_children(first, texts) if isinstance(first, Attr) else None

    return roll(statements, _members_called, loop)


def _list_called(value: Expr) -> tuple[str, int] | None:
    """(list, index) of the module of a list that an expression is the call of."""
    if not isinstance(value, Call) or not isinstance(value.function, Index) or not _is_counted(value.function):
        return None
    return text_of(value.function.value), _number(value.function)


def _number(item: Index) -> int:
    assert isinstance(item.index, Const)
    return int(item.index.value)


def _length(members: list[str], container: str) -> int:
    """How many items a list has. Places before the last that no member has are filled, and looped over like it."""
    inside = [m[len(container) + 1 :].partition(".")[0] for m in members if m.startswith(f"{container}.")]
    return max((int(word) + 1 for word in inside if is_index(word)), default=0)


def _members_called(value: Expr) -> list[Expr]:
    """The modules, of a list or with a number in their name, that an expression begins with the call of."""
    found = [value]
    while found[-1].children():
        found.append(found[-1].children()[0])
    return [node.function for node in found if isinstance(node, Call) and _is_counted(node.function)]


def _is_counted(node: Expr) -> bool:
    owner = node.value if isinstance(node, Index) else node
    path = dotted(owner)
    if path is None or not path.startswith("self."):
        return False
    return isinstance(node.index, Const) if isinstance(node, Index) else path[-1] in _DIGITS
