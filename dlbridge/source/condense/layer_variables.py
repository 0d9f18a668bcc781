"""What goes through the layers of a list stays one variable, so that a loop can go over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dlbridge.source.tree.expr import Call, Expr, Var
from dlbridge.source.tree.statements import Assign, Return, Statement

#: For fewer layers, no statement is added that gives what goes through them its name.
MIN_ROUNDS = 3
#: From an expression, (list, index) of the module that it is the call of.
Called = Callable[[Expr], tuple[str, int] | None]


def one_variable(statements: Sequence[Statement], called: Called) -> list[Statement]:
    """The statements, in which calls of the layers of a list hand on one variable.

    ``y = self.layers[0](x, mask)``, ``z = self.layers[1](y, mask)`` becomes ``y = x``, ``y = self.layers[0](y, mask)``,
    ``y = self.layers[1](y, mask)``, and where nothing else is done with ``x``, that is called ``y`` at once.
    """
    found = list(statements)
    index = 0
    while index < len(found):
        count = _in_a_row(found[index:], called)
        if count > 1:
            index += _hand_on(found, index, count)
        index += max(count, 1)
    return found


def _hand_on(statements: list[Statement], first: int, count: int) -> int:
    """Let calls in a row have one variable, in place, where that can be; gives how many statements came on top."""
    start, last = statements[first], statements[first + count - 1]
    given, name, end = _first_argument(start), _target(start), _target(last)
    assert isinstance(start, Assign) and isinstance(last, Assign) and given and name and end
    if end != name:
        _rename_after(statements, first + count - 1, end, name)
    if given == name:
        return 0
    more = 0
    if not _rename_before(statements, first, given, name):
        if count < MIN_ROUNDS:
            return 0
        statements.insert(first, Assign(Var(name), Var(given)))
        more = 1
    statements[first + more] = Assign(start.target, _with(start.value, given, name))
    return more


def _in_a_row(statements: Sequence[Statement], called: Called) -> int:
    """How many statements, from the first on, call the layers of a list, each with what the one before gives and with
    the same other arguments."""
    count, rest, before = 0, None, None
    for statement in statements:
        given, target = _first_argument(statement), _target(statement)
        if given is None or target is None:
            break
        assert isinstance(statement, Assign) and isinstance(statement.value, Call)
        layer = called(statement.value)
        if layer is None or layer[1] != count:
            break
        others = statement.value.arguments[1:]
        key = layer[0], [argument.key() for argument in others]
        if before is not None and (given, key) != (before, rest):
            break
        handed_on = {given, target} if count == 0 else {given}
        if handed_on & _variables(others):
            break
        count, rest, before = count + 1, key, target
    return count


def _target(statement: Statement) -> str | None:
    """The variable that a statement assigns to, if it is one."""
    return statement.target.id if isinstance(statement, Assign) and isinstance(statement.target, Var) else None


def _first_argument(statement: Statement) -> str | None:
    """The variable that is the first argument of the call that a statement makes."""
    value = statement.value if isinstance(statement, Assign) else None
    given = value.arguments[0] if isinstance(value, Call) and value.arguments else None
    return given.id if isinstance(given, Var) else None


def _rename_before(statements: list[Statement], end: int, old: str, new: str) -> bool:
    """Call a variable otherwise from where it is made up to the statement at ``end``, where nothing reads it later.

    Returns:
        Whether that was possible: the statements are changed then.
    """
    made = next((i for i in reversed(range(end)) if _assigns(statements[i], old)), None)
    if made is None or _target(statements[made]) != old or _is_read(statements[end + 1 :], old):
        return False
    return _renamed(statements, made, end, old, new)


def _rename_after(statements: list[Statement], made: int, old: str, new: str) -> bool:
    """Call a variable otherwise from where it is made up to where it gets another value; as ``_rename_before``."""
    end = next((i for i in range(made + 1, len(statements)) if _assigns(statements[i], old)), len(statements))
    last = statements[end : end + 1]
    if any(old in _variables(s.expressions()) for s in last) or _is_read(statements[end:], new):
        return False
    return _renamed(statements, made, end, old, new)


def _renamed(statements: list[Statement], made: int, end: int, old: str, new: str) -> bool:
    """Call what the statement at ``made`` makes otherwise in the statements behind it, up to ``end``."""
    inside = statements[made + 1 : end]
    if any(not isinstance(s, (Assign, Return)) for s in inside):
        return False
    if any(new in _variables(s.expressions()) for s in inside):
        return False
    first = statements[made]
    assert isinstance(first, Assign)
    statements[made] = Assign(Var(new), first.value)
    for place, each in enumerate(inside, made + 1):
        value = _with(each.value, old, new)  # type: ignore[attr-defined]
        statements[place] = Return(value) if isinstance(each, Return) else Assign(each.target, value)  # type: ignore[attr-defined]
    return True


def _assigns(statement: Statement, name: str) -> bool:
    return isinstance(statement, Assign) and name in statement.target.variables()


def _is_read(statements: Sequence[Statement], name: str) -> bool:
    """Whether a variable is read before it gets another value."""
    for statement in statements:
        if not isinstance(statement, Assign):
            if name in _variables(statement.expressions()) or statement.body():
                return True
        elif name in statement.value.variables():
            return True
        elif _assigns(statement, name):
            return False
    return False


def _with(tree: Expr, old: str, new: str) -> Expr:
    return tree.map(lambda node: Var(new) if isinstance(node, Var) and node.id == old else None)


def _variables(nodes: Iterable[Expr]) -> set[str]:
    return set[str]().union(*(node.variables() for node in nodes))
