"""How many lines of code a file has, and the classes of a library that ran to make and to call a module.

Blank lines, comments and docstrings do not count. Of a library's own classes and functions, neither does what was not
needed: branches that did not run, and parameters that nothing that ran reads, nor those of caches.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

_SILENT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}
_DOCUMENTED = (ast.FunctionDef, ast.ClassDef, ast.Module)
_BRANCHES = (ast.If, ast.For, ast.While, ast.With)
#: Parameters for caches.
_CACHES = frozenset({"past_key_values", "cache", "use_cache"})


def code_lines(text: str) -> set[int]:
    """The numbers of the lines of a file that are code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = {row for t in tokens if t.type not in _SILENT for row in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            found -= _rows(node.body[0])
    return found


def lines_of_classes(make: Callable[[], torch.nn.Module], inputs: Mapping[str, Any]) -> int:
    """How many lines of code of the file of a module's class make the module and call it without a cache."""
    file = inspect.getsourcefile(type(make()))
    assert file is not None
    ran: set[int] = set()

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        ran.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        with torch.no_grad():
            make()(**inputs, use_cache=False)
    finally:
        sys.settrace(None)
    text = Path(file).read_text()
    return len(_needed(ast.parse(text).body, ran) & code_lines(text))


def _needed(statements: Iterable[ast.stmt], ran: set[int]) -> set[int]:
    """The lines of what ran in statements."""
    found: set[int] = set()
    for each in statements:
        if isinstance(each, ast.ClassDef):
            functions = [part for part in each.body if isinstance(part, ast.FunctionDef)]
            inside = _needed(functions, ran)
            found |= inside | {each.lineno} if inside else set()
        elif isinstance(each, ast.FunctionDef):
            body = set(range(each.body[0].lineno, each.end_lineno + 1))  # type: ignore[operator]
            if body & ran:
                found |= (_head(each) - _unread(each, ran)) | _needed(each.body, ran)
        elif isinstance(each, _BRANCHES):
            inside = _needed([*each.body, *getattr(each, "orelse", [])], ran)
            found |= inside | _head(each) if inside else set()
        elif _rows(each) & ran:
            found |= _rows(each)
    return found


def _unread(function: ast.FunctionDef, ran: set[int]) -> set[int]:
    """The lines of parameters that nothing that ran reads, where each has its own."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.lineno in ran]
    read = {node.id for node in nodes if isinstance(node.ctx, ast.Load)} - _CACHES | {"self"}
    given = [*function.args.args, *function.args.kwonlyargs, function.args.kwarg]
    unread = [a for a in given if a is not None and a.arg not in read and a.lineno != function.lineno]
    return {row for argument in unread for row in _rows(argument)}


def _head(node: Any) -> set[int]:
    return set(range(node.lineno, node.body[0].lineno))


def _rows(node: Any) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))
