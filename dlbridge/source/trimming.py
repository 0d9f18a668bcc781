"""Helpers as a file calls them: parameters that no call of it gives are left out, with the code for them alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlbridge.source.expr import Call, Expr, Keyword, Name, Star
from dlbridge.source.statements import Statement

#: A longer line of parameters would have to be broken.
_WIDTH = 120
#: The defaults of parameters that may be left out: what stands for "not asked for".
_NOT_ASKED = (None, False)


@dataclass
class Use:
    """How a file uses a helper.

    Attributes:
        positions: How many arguments by position its calls have at most.
        keywords: The names of those that they have by keyword.
        is_known: Whether every use is a call of which that can be said.
    """

    positions: int = 0
    keywords: set[str] = field(default_factory=set)
    is_known: bool = True

    def add(self, positions: int, keywords: Iterable[str]) -> None:
        """Note a call."""
        self.positions = max(self.positions, positions)
        self.keywords.update(keywords)

    def gives(self, place: int, name: str) -> bool:
        """Whether some call gives the parameter of that name, which is the one at that place."""
        return not self.is_known or place < self.positions or name in self.keywords


def trimmed(texts: Mapping[str, str], parts: Sequence[Statement], names: frozenset[str]) -> dict[str, str]:
    """The helpers of a file, some without what no call gives.

    Args:
        texts: Name -> source of each helper.
        parts: The statements of the file that calls them.
        names: Those that may become shorter.
    """
    found = dict(texts)
    while names & texts.keys():  # what is left out of one may have been the only call of another
        used = {name: Use() for name in found}
        for part in parts:
            _of_statement(part, used)
        for text in found.values():
            _of_text(text, used)
        shorter = {name: _without(text, used[name]) if name in names else text for name, text in texts.items()}
        if shorter == found:
            break
        found = shorter
    return found


# --- calls ------------------------------------------------------------------------------------------------------------


def _of_statement(statement: Statement, used: Mapping[str, Use]) -> None:
    seen: set[str] = set()
    for expression in statement.expressions():
        seen |= expression.names()
        nodes = list(expression.walk())
        calls = [node for node in nodes if isinstance(node, Call) and isinstance(node.function, Name)]
        heads = {id(call.function) for call in calls}
        for call in calls:
            _note_call(call, used)
        for node in nodes:
            if isinstance(node, Name) and node.id in used and id(node) not in heads:
                used[node.id].is_known = False
    for inside in statement.body():
        seen |= inside.names()
        _of_statement(inside, used)
    for name in (statement.names() - seen) & used.keys():  # in lines of text
        used[name].is_known = False


def _note_call(call: Call, used: Mapping[str, Use]) -> None:
    assert isinstance(call.function, Name)
    use = used.get(call.function.id)
    if use is None:
        return
    arguments: list[Expr] = list(call.arguments)
    keywords = [a.name for a in arguments if isinstance(a, Keyword)]
    if any(isinstance(a, Star) for a in arguments) or "" in keywords:
        use.is_known = False
    use.add(len(arguments) - len(keywords), keywords)


def _of_text(text: str, used: Mapping[str, Use]) -> None:
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    heads = {id(call.func) for call in calls}
    for call in calls:
        use = used.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if use is None:
            continue
        keywords = [keyword.arg for keyword in call.keywords]
        if None in keywords or any(isinstance(argument, ast.Starred) for argument in call.args):
            use.is_known = False
        use.add(len(call.args), (name for name in keywords if name is not None))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in used and id(node) not in heads:
            used[node.id].is_known = False


# --- code -------------------------------------------------------------------------------------------------------------


def _without(text: str, use: Use) -> str:
    """A function without the parameters that no call gives; other definitions as they are."""
    before = None
    while before != text:  # code for one parameter may read another
        before = text
        node = ast.parse(text).body[0]
        if not isinstance(node, ast.FunctionDef) or not use.is_known:
            return text
        for name, default in _optional(node, use):
            text = _without_parameter(text, name, default)
    return text


def _optional(function: ast.FunctionDef, use: Use) -> Iterator[tuple[str, Any]]:
    """(name, default) of each parameter that may be left out."""
    places = [*function.args.posonlyargs, *function.args.args]
    first = len(places) - len(function.args.defaults)
    pairs = [(a, d, first + i) for i, (a, d) in enumerate(zip(places[first:], function.args.defaults, strict=True))]
    never = len(places) + 1_000
    pairs += [(a, d, never) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d]
    for parameter, default, place in pairs:
        is_plain = isinstance(default, ast.Constant) and any(default.value is value for value in _NOT_ASKED)
        if is_plain and not use.gives(place, parameter.arg):
            yield parameter.arg, default.value  # type: ignore[attr-defined]


def _without_parameter(text: str, name: str, default: Any) -> str:
    """A function without a parameter, which has its default; as it is where the parameter is read for its value."""
    shorter: str | None = text
    while shorter is not None:
        tree = ast.parse(shorter).body[0]
        assert isinstance(tree, ast.FunctionDef)
        reads = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
        if not reads:
            return _without_argument(shorter, tree, name) or text
        shorter = next(
            (_decided(shorter, node, outcome) for node, outcome in _choices(tree, name, default)),
            None,
        )
    return text


def _choices(tree: ast.AST, name: str, default: Any) -> Iterator[tuple[ast.If | ast.IfExp, bool]]:
    """(what chooses, how) where a test is of that parameter alone."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            outcome = _outcome(node.test, name, default)
            if outcome is not None:
                yield node, outcome


def _outcome(test: ast.expr, name: str, default: Any) -> bool | None:
    """What a test is where the parameter has its default; None of a test of something else."""
    match test:
        case ast.Name(id=found) if found == name:
            return bool(default)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=found)) if found == name:
            return not default
        case ast.Compare(left=ast.Name(id=found), ops=[op], comparators=[ast.Constant(value=None)]) if found == name:
            return (default is None) == isinstance(op, ast.Is) if isinstance(op, (ast.Is, ast.IsNot)) else None
    return None


def _decided(text: str, node: ast.If | ast.IfExp, outcome: bool) -> str | None:
    """The code with the branch that is taken in the place of a choice; None where that leaves nothing."""
    if isinstance(node, ast.IfExp):
        taken = ast.get_source_segment(text, node.body if outcome else node.orelse)
        return None if taken is None else _with_span(text, node, taken)
    lines = text.splitlines()
    assert node.end_lineno is not None
    branch = node.body if outcome else node.orelse
    if lines[node.lineno - 1].lstrip().startswith("elif") or (branch and isinstance(branch[0], ast.If) and not outcome):
        return None
    kept: list[str] = []
    if branch:
        inside = lines[branch[0].lineno - 1 : branch[-1].end_lineno]
        deeper = branch[0].col_offset - node.col_offset
        kept = [line[deeper:] if line.strip() else line for line in inside]
    first = node.lineno - 1
    while not kept and lines[first - 1].lstrip().startswith("#"):
        first -= 1  # what is said of it
    left = [*lines[:first], *kept, *lines[node.end_lineno :]]
    return "\n".join(left) if _parses(left) else None


def _with_span(text: str, node: ast.expr, new: str) -> str:
    """The code with other text in the place of an expression."""
    lines = text.splitlines()
    assert node.end_lineno is not None and node.end_col_offset is not None
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    return "\n".join([*lines[: node.lineno - 1], head + new + tail, *lines[node.end_lineno :]])


def _without_argument(text: str, function: ast.FunctionDef, name: str) -> str | None:
    """The function without a parameter in its head; None where the head would be too long for a line."""
    _drop(function.args, lambda argument: argument.arg == name)
    head = f"def {function.name}({ast.unparse(function.args)}):"
    lines = text.splitlines()
    first = function.body[0].lineno - 1
    return None if len(head) > _WIDTH else "\n".join([*lines[: function.lineno - 1], head, *lines[first:]])


def _drop(arguments: ast.arguments, is_it: Callable[[ast.arg], bool]) -> None:
    """Remove a parameter that has a default."""
    first = len(arguments.args) - len(arguments.defaults)
    place = next((i for i, argument in enumerate(arguments.args) if is_it(argument)), None)
    if place is not None:
        del arguments.args[place], arguments.defaults[place - first]
        return
    place = next(i for i, argument in enumerate(arguments.kwonlyargs) if is_it(argument))
    del arguments.kwonlyargs[place], arguments.kw_defaults[place]


def _parses(lines: Sequence[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True
