"""Names that the author of a module gave to what its lines compute: ``query_states = self.q_proj(x).view(...)``."""

from __future__ import annotations

import ast
import functools
import linecache
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import torch

from dlbridge.frameworks.pytorch.tracing import is_torch

#: Frames of a stack trace, outermost first.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
#: A line of a file.
Place = tuple[str, int]


@dataclass(frozen=True)
class _Assignment:
    """A statement that assigns: its first line, and the variables."""

    line: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """The variable that a call's result is assigned to, or (``is_part``) that is computed from it in that statement."""

    name: str
    is_part: bool


def author_names(graph: torch.fx.Graph) -> dict[torch.fx.Node, Said]:
    """What the code of a module says of the results of the calls in its graph.

    A statement that assigns to several variables gives its results their names in order, if they are as many, or the
    first where it has one result.
    """
    found: dict[torch.fx.Node, Said] = {}
    calls = [node for node in graph.nodes if node.op == "call_function"]
    for (_, assignment), group in groupby(calls, key=_statement):
        if assignment is None:
            continue
        members = dict.fromkeys(group)
        results = [node for node in members if _is_result(node, members)]
        names = assignment.names[:1] if len(results) == 1 else assignment.names
        if len(results) != len(names):
            continue
        for node, name in zip(results, names, strict=True):
            if name != "_":
                found[node] = Said(name, is_part=False)
                _name_parts(node, name, members, found)
    return found


def _is_result(node: torch.fx.Node, members: Container[torch.fx.Node]) -> bool:
    """Whether a tensor is read after the statement that makes it."""
    return isinstance(node.meta.get("val"), torch.Tensor) and any(user not in members for user in node.users)


def _name_parts(
    node: torch.fx.Node, name: str, members: Container[torch.fx.Node], found: dict[torch.fx.Node, Said]
) -> None:
    """Name what a result alone is computed from within the statement, but for what torch's own modules compute."""
    for operand in node.all_input_nodes:
        if operand in found or operand not in members or _in_torch(operand):
            continue
        if all(user in found and found[user].name == name for user in operand.users):
            found[operand] = Said(name, is_part=True)
            _name_parts(operand, name, members, found)


def _frames(node: torch.fx.Node) -> list[Place]:
    return [(file, int(line)) for file, line in _FRAME.findall(node.meta.get("stack_trace") or "")]


def _in_torch(node: torch.fx.Node) -> bool:
    return any(is_torch(file) for file, _ in _frames(node)[-1:])


def _statement(node: torch.fx.Node) -> tuple[tuple[Place, ...], _Assignment | None]:
    """Where the innermost statement around a call is located that is not torch's, and what it assigns to."""
    frames = _frames(node)
    while frames and is_torch(frames[-1][0]):
        frames.pop()
    if not frames:
        return (), None
    *around, (file, line) = frames
    assignment = _assignments(file).get(line)
    return (*around, (file, assignment.line if assignment else line)), assignment


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
            made = _Assignment(node.lineno, names)
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), made)
    return found


def _targets(node: ast.AST) -> tuple[str, ...]:
    match node:
        case ast.Assign(targets=[target]):
            return tuple(_words(target))
        case ast.AugAssign(target=ast.Name(id=name)) | ast.AnnAssign(target=ast.Name(id=name)):
            return (name,)
    return ()


def _words(target: ast.expr) -> Iterator[str]:
    """The variables of ``a`` and of ``a, b``; ``_`` for what is not a variable."""
    match target:
        case ast.Name(id=name):
            yield name
        case ast.Tuple(elts=parts):
            for part in parts:
                yield part.id if isinstance(part, ast.Name) else "_"
