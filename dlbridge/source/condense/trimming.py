"""Helpers as a file calls them: parameters that no call of it gives are left out, with the code for them alone; so is
the code for what a parameter that every call gives would be without one."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from dlbridge.source.tree.expr import Call, Const, Expr, Keyword, Lit, Name, Star
from dlbridge.source.tree.statements import Statement

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
        always: The places and names of those that every call has, as something that is not None; None before a call.
        is_known: Whether every use is a call of which that can be said.
    """

    positions: int = 0
    keywords: set[str] = field(default_factory=set)
    always: set[int | str] | None = None
    is_known: bool = True

    def add(self, positions: int, keywords: Iterable[str], sure: Iterable[int | str] = ()) -> None:
        """Note a call; ``sure`` are the places and keywords of what is known not to be None."""
        self.positions = max(self.positions, positions)
        self.keywords.update(keywords)
        self.always = set(sure) if self.always is None else self.always.intersection(sure)

    def gives(self, place: int, name: str) -> bool:
        """Whether some call gives the parameter of that name, which is the one at that place."""
        return not self.is_known or place < self.positions or name in self.keywords

    def always_gives(self, place: int, name: str) -> bool:
        """Whether every call gives that parameter, as something that is not None."""
        return self.is_known and not {place, name}.isdisjoint(self.always or ())


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
    sure = [a.name if isinstance(a, Keyword) else i for i, a in enumerate(arguments) if not _is_none(a)]
    use.add(len(arguments) - len(keywords), keywords, sure)


def _is_none(argument: Expr) -> bool:
    """Whether an argument is None: what a file computes with never is."""
    value = argument.value if isinstance(argument, Keyword) else argument
    if isinstance(value, Lit):
        return value.literal.value is None
    return isinstance(value, Const) and value.value is None


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
    whole, before = text, None
    while before != text:  # code for one parameter may read another
        before = text
        node = ast.parse(text).body[0]
        if not isinstance(node, ast.FunctionDef) or not use.is_known:
            return text
        for name, default, place in _optional(node):
            if not use.gives(place, name):
                text = _without_parameter(text, name, {"default": default})
            elif default is None and use.always_gives(place, name):
                text = _as_if(text, name, {})
    return text if text == whole else _returned_at_once(_required(text, use))


def _optional(function: ast.FunctionDef) -> Iterator[tuple[str, Any, int]]:
    """(name, default, place) of each parameter that may be left out."""
    places = [*function.args.posonlyargs, *function.args.args]
    first = len(places) - len(function.args.defaults)
    pairs = [(a, d, first + i) for i, (a, d) in enumerate(zip(places[first:], function.args.defaults, strict=True))]
    never = len(places) + 1_000
    pairs += [(a, d, never) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d]
    for parameter, default, place in pairs:
        if isinstance(default, ast.Constant) and any(default.value is value for value in _NOT_ASKED):
            yield parameter.arg, default.value, place


def _without_parameter(text: str, name: str, known: Mapping[str, Any]) -> str:
    """A function without a parameter, which has its default; as it is where the parameter is read for its value."""
    shorter = _as_if(text, name, known)
    tree = ast.parse(shorter).body[0]
    assert isinstance(tree, ast.FunctionDef)
    if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree)):
        return text
    return _without_argument(shorter, tree, name) or text


def _as_if(text: str, name: str, known: Mapping[str, Any]) -> str:
    """A function in which the outcome of each test of a parameter alone is known.

    Args:
        text: The function.
        name: The parameter.
        known: Its ``default``, which it has; nothing where it has some value that is not None.
    """
    while True:
        shorter = next((found for found in _decisions(text, name, known) if found is not None), None)
        if shorter is None:
            return text
        text = shorter


def _decisions(text: str, name: str, known: Mapping[str, Any]) -> Iterator[str | None]:
    """The function with each of the tests of that parameter alone decided."""
    for node in ast.walk(ast.parse(text).body[0]):
        if not isinstance(node, (ast.If, ast.IfExp)):
            continue
        all_of = node.test.values if _is_all_of(node.test) else [node.test]
        outcomes = [_outcome(test, name, known) for test in all_of]
        open_tests = [test for test, outcome in zip(all_of, outcomes, strict=True) if outcome is None]
        if False in outcomes:
            yield _decided(text, node, False)
        elif not open_tests:
            yield _decided(text, node, True)
        elif len(open_tests) < len(all_of):
            yield _with_span(text, node.test, " and ".join(map(ast.unparse, open_tests)))


def _is_all_of(test: ast.expr) -> TypeGuard[ast.BoolOp]:
    return isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)


def _outcome(test: ast.expr, name: str, known: Mapping[str, Any]) -> bool | None:
    """What a test of the parameter is; None of a test of something else."""
    match test:
        case ast.Name(id=found) if found == name and known:
            return bool(known["default"])
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=found)) if found == name and known:
            return not known["default"]
        case ast.Compare(left=ast.Name(id=found), ops=[op], comparators=[ast.Constant(value=None)]) if found == name:
            is_none = bool(known) and known["default"] is None
            return is_none == isinstance(op, ast.Is) if isinstance(op, (ast.Is, ast.IsNot)) else None
    return None


def _required(text: str, use: Use) -> str:
    """The function, in which those of the first optional parameters, and of those by keyword alone, that every
    call gives have no default."""
    tree = ast.parse(text).body[0]
    assert isinstance(tree, ast.FunctionDef)
    parameters, defaults = tree.args.args, tree.args.defaults
    while defaults and use.always_gives(len(parameters) - len(defaults), parameters[-len(defaults)].arg):
        del defaults[0]
    for place, parameter in enumerate(tree.args.kwonlyargs):
        if use.always_gives(-1, parameter.arg):
            tree.args.kw_defaults[place] = None
    return _with_head(text, tree) or text


def _returned_at_once(text: str) -> str:
    """``y = f(x)`` followed by ``return y``, which nothing stands between any more, is ``return f(x)``; followed by
    ``return g(y)`` it is ``return g(f(x))``."""
    tree = ast.parse(text).body[0]
    assert isinstance(tree, ast.FunctionDef)
    match tree.body[-2:]:
        case [ast.Assign(targets=[ast.Name(id=made)]) as assign, ast.Return(value=ast.Name(id=given))] if made == given:
            lines = text.splitlines()
            first = assign.lineno - 1
            lines[first] = lines[first].replace(f"{made} = ", "return ", 1)
            return "\n".join(lines[: assign.end_lineno])
        case [ast.Assign(targets=[ast.Name(id=made)]) as assign, ast.Return(value=ast.Call() as call) as last]:
            reads = [node for node in ast.walk(last) if isinstance(node, ast.Name) and node.id == made]
            if len(reads) == 1 and reads[0] in call.args and assign.lineno == assign.end_lineno == last.lineno - 1:
                value = text.splitlines()[assign.lineno - 1].partition(" = ")[2]
                lines = _with_span(text, reads[0], value).splitlines()
                del lines[assign.lineno - 1]
                return text if max(map(len, lines)) > _WIDTH else "\n".join(lines)
    return text


def _decided(text: str, node: ast.If | ast.IfExp, outcome: bool) -> str | None:
    """The code with the branch that is taken in the place of a choice; None where that leaves nothing."""
    if isinstance(node, ast.IfExp):
        taken = node.body if outcome else node.orelse
        segment = ast.get_source_segment(text, taken)
        return (
            None
            if segment is None
            else _with_span(text, node, segment, is_atom=isinstance(taken, (ast.Name, ast.Constant)))
        )
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


def _with_span(text: str, node: ast.expr, new: str, *, is_atom: bool = False) -> str:
    """The code with other text in the place of an expression, and of the brackets around it that an atom needs not."""
    lines = text.splitlines()
    assert node.end_lineno is not None and node.end_col_offset is not None
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    if is_atom and head.endswith(" (") and tail.startswith(")"):
        head, tail = head[:-1], tail[1:]
    return "\n".join([*lines[: node.lineno - 1], head + new + tail, *lines[node.end_lineno :]])


def _without_argument(text: str, function: ast.FunctionDef, name: str) -> str | None:
    """The function without a parameter in its head; None where the head would be too long for a line."""
    _drop(function.args, lambda argument: argument.arg == name)
    return _with_head(text, function)


def _with_head(text: str, function: ast.FunctionDef) -> str | None:
    """The function with the parameters of a tree in its head; None where the head would be too long for a line."""
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
