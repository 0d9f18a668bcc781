"""Names that the author of a module gave to what its lines compute: ``query_states = self.q_proj(x).view(...)``."""

from __future__ import annotations

import ast
import functools
import linecache
import operator
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch

from dlbridge.frameworks.pytorch.export.author_frames import FRAMES, NAME, AuthorFrame, parameters, variables
from dlbridge.frameworks.pytorch.export.tracing import is_torch

#: Frames of a stack trace, outermost first.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class _Assignment:
    """A statement that assigns: its first line, and the variables; ``of_items`` where one holds a list of results."""

    line: int
    names: tuple[str, ...]
    of_items: bool = False


@dataclass(frozen=True)
class Said:
    """What the author's code says of the result of a call.

    Attributes:
        name: The variable that it is assigned to in the code of the module that makes the call.
        is_part: Whether that variable is computed from it in the statement, rather than being it.
        elsewhere: Path of another module -> what its code calls the result, which it is given or is given back, or
            what is computed from it there.
    """

    name: str | None = None
    is_part: bool = False
    elsewhere: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Name:
    """What one statement says of a result."""

    name: str
    is_part: bool


#: What the statements at one depth of the frames say of results.
_Level = Mapping[torch.fx.Node, _Name]
_Nodes = Container[torch.fx.Node]


def author_names(graph: torch.fx.Graph) -> dict[torch.fx.Node, Said]:
    """What the code of a module, of its parts, and of the functions that it calls says of the results in its graph.

    A result has the variable that the statement around its call assigns it to, or one that has held it since. Where a
    function's result is assigned at once, it has the name that it is assigned to; what else is computed in that
    function has the names that it has there.
    """
    frames = _frames([node for node in graph.nodes if node.op == "call_function"])
    depth = max(map(len, frames.values()), default=0)
    levels = [_level(frames, place) for place in range(depth)]
    said = {node: _said(node, found, levels) for node, found in frames.items()}
    given = {node: Said(elsewhere=parameters(node)) for node in graph.nodes if node.op == "placeholder"}
    ours = {node: Said(node.meta[NAME]) for node in graph.nodes if NAME in node.meta}
    return {**ours, **{node: each for node, each in {**said, **given}.items() if each.name or each.elsewhere}}


def _said(node: torch.fx.Node, frames: tuple[AuthorFrame, ...], levels: list[_Level]) -> Said:
    own = frames[-1].path
    results: dict[str, str] = {}
    parts: dict[str, str] = {}
    for frame, level in zip(frames, levels, strict=False):
        found, held = level.get(node), variables(node, frame)
        assigned = found.name if found is not None and not found.is_part else None
        if held and assigned not in held:
            assigned = held[0]
        if assigned is not None:
            results.setdefault(frame.path, assigned)
        elif found is not None:
            parts[frame.path] = found.name
    elsewhere = {**parameters(node), **{path: name for path, name in {**parts, **results}.items() if path != own}}
    return Said(results.get(own, parts.get(own)), own not in results, elsewhere)


def _level(around: Mapping[torch.fx.Node, tuple[AuthorFrame, ...]], place: int) -> _Level:
    """What the statements in the frames at one place say of the results of the calls that are made there.

    What one of torch's own modules computes is not named as a part of a statement: the layer has a name.
    """
    frames = {node: found[place] for node, found in around.items() if len(found) > place}
    layers = {node for node, found in around.items() if len(found) == place + 1 and _in_torch(node)}
    found: dict[torch.fx.Node, _Name] = {}
    for (_, assignment), group in groupby(frames, key=lambda node: _statement(frames[node])):
        if assignment is None:
            continue
        members = dict.fromkeys(group)
        results = [node for node in members if _is_result(node, members)]
        for node, name in _assigned(results, assignment, frames).items():
            found[node] = _Name(name, is_part=False)
            _name_parts(node, name, members, layers, found)
        for node in members:
            _name_listed(node, members, layers, found)
    return found


def _assigned(
    results: Sequence[torch.fx.Node], assignment: _Assignment, frames: Mapping[torch.fx.Node, AuthorFrame]
) -> dict[torch.fx.Node, str]:
    """The variables that a statement assigns its results to.

    Several results may be computed in another order than that of the variables: what the variables have held tells,
    or that they are results of one call.
    """
    names = assignment.names
    if len(results) == 1:
        return {node: names[0] for node in results if names[0] != "_"}
    items = re.compile("|".join(rf"{re.escape(name)}(\.\d+)?" for name in names))
    held = {node: next(filter(items.fullmatch, variables(node, frames[node])), None) for node in results}
    if any(held.values()):
        return {node: name for node, name in held.items() if name is not None}
    if assignment.of_items:
        return dict.fromkeys(results, names[0])
    if len(results) == len(names) and len({node.args[0] for node in results if node.target is operator.getitem}) == 1:
        return {node: name for node, name in zip(results, names, strict=True) if name != "_"}
    return {}


def _is_result(node: torch.fx.Node, members: _Nodes) -> bool:
    """Whether a tensor is read after the statement that makes it."""
    return isinstance(node.meta.get("val"), torch.Tensor) and any(user not in members for user in _readers(node))


def _readers(node: torch.fx.Node) -> list[torch.fx.Node]:
    """What computes something of a node's result that is read: assertions do not."""
    return [user for user in node.users if user.op == "output" or (user.meta.get("val") is not None and user.users)]


def _name_parts(
    node: torch.fx.Node, name: str, members: _Nodes, layers: _Nodes, found: dict[torch.fx.Node, _Name]
) -> None:
    """Name what a result alone is computed from within the statement, but for what layers compute."""
    pending, leads = [node], {node}
    while pending:
        for operand in pending.pop().all_input_nodes:
            if operand in found or operand in leads or operand not in members:
                continue
            if all(user in leads or _is_called(found.get(user), name) for user in _readers(operand)):
                leads.add(operand)
                pending.append(operand)
                if operand not in layers:
                    found[operand] = _Name(name, is_part=True)


def _is_called(found: _Name | None, name: str) -> bool:
    return found is not None and found.name == name


def _name_listed(node: torch.fx.Node, members: _Nodes, layers: _Nodes, found: dict[torch.fx.Node, _Name]) -> None:
    """Name what a list of tensors is computed from, of which a call makes as many: the grid of ``ys, xs``."""
    listed = node.args[0] if node.args else None
    names = {user.args[1]: found[user].name for user in node.users if user in found and user.target is operator.getitem}
    if not isinstance(listed, (list, tuple)) or set(names) != set(range(len(listed))):
        return
    for index, operand in enumerate(listed):
        if isinstance(operand, torch.fx.Node) and operand in members and _readers(operand) == [node]:
            found.setdefault(operand, _Name(names[index], is_part=True))
            _name_parts(operand, names[index], members, layers, found)


def _frames(calls: Sequence[torch.fx.Node]) -> dict[torch.fx.Node, tuple[AuthorFrame, ...]]:
    """The frames around calls as they were noted in the trace; where none were, the innermost that torch tells."""
    noted = {node: node.meta[FRAMES] for node in calls if node.meta.get(FRAMES)}
    return noted or {node: (frame,) for node in calls if (frame := _innermost(node)) is not None}


def _innermost(node: torch.fx.Node) -> AuthorFrame | None:
    places = [(file, int(line)) for file, line in _traced(node) if not is_torch(file)]
    return AuthorFrame(*places[-1], path="", run=(0, 0)) if places else None


def _traced(node: torch.fx.Node) -> list[tuple[str, str]]:
    return _FRAME.findall(node.meta.get("stack_trace") or "")


def _in_torch(node: torch.fx.Node) -> bool:
    return any(is_torch(file) for file, _ in _traced(node)[-1:])


def _statement(frame: AuthorFrame) -> tuple[tuple, _Assignment | None]:
    """The one execution of a statement that a frame is in, and what that assigns to."""
    assignment = _assignments(frame.file).get(frame.line)
    return (frame.file, assignment.line if assignment else frame.line, frame.run), assignment


@functools.lru_cache(maxsize=256)
def _assignments(file: str) -> Mapping[int, _Assignment]:
    """The statement that assigns on each line of a file."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return {}
    found: dict[int, _Assignment] = {}
    for node in ast.walk(tree):
        names = _targets(node)
        if names:
            assert isinstance(node, ast.stmt)
            made = _Assignment(node.lineno, names, _is_of_items(node))
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), made)
    return found


def _targets(node: ast.AST) -> tuple[str, ...]:
    match node:
        case ast.Assign(targets=[target]):
            return tuple(_words(target))
        case ast.AugAssign(target=ast.Name(id=name)) | ast.AnnAssign(target=ast.Name(id=name)):
            return (name,)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"))):
            return (name,)
    return ()


def _is_of_items(statement: ast.stmt) -> bool:
    """Whether each result of a statement is an item of what it assigns to: ``ys = [f(x) for x in xs]``."""
    match statement:
        case ast.Assign(value=ast.ListComp() | ast.List()) | ast.Expr():
            return True
    return False


def _words(target: ast.expr) -> Iterator[str]:
    """The variables of ``a`` and of ``a, b``; ``_`` for what is not a variable."""
    match target:
        case ast.Name(id=name):
            yield name
        case ast.Tuple(elts=parts):
            for part in parts:
                yield part.id if isinstance(part, ast.Name) else "_"
