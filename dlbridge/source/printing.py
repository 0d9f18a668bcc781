"""Printing: a file of statements, with the helpers that they call copied into it."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.condense.trimming import trimmed
from dlbridge.source.names import quoted
from dlbridge.source.tree.document import WIDTH
from dlbridge.source.tree.statements import Statement, Text


def file(parts: Sequence[Statement], module: ModuleType, imported: Callable[[set[str]], Iterable[str]]) -> str:
    """A file: imports, the helpers that the parts call, the parts.

    Args:
        parts: What was written.
        module: The helpers.
        imported: From the names that the file reads, the import statements, but for the standard library.
    """
    read = set().union(*(part.names() for part in parts))
    copied = by_use(module, helpers(module, read), parts)
    used = read.union(*(_names_of(text) for text in copied.values()))
    imports = [*(["import math\n"] if "math" in used else []), *imported(used)]
    written = ["\n".join(part.lines()) for part in parts]
    return "\n".join(imports) + "\n\n\n" + "\n\n\n".join([*copied.values(), *written]) + "\n"


def docstring(lines: list[str], indent: str = "    ") -> Text:
    """A docstring of these lines, wrapped to stand at an indent. What could end it, or begin an escape, is escaped."""
    texts = [quoted(line.replace('"', "'"))[1:-1] for line in lines]
    wrapped = [part for text in texts for part in textwrap.wrap(text, WIDTH - len(indent), break_long_words=False)]
    if len(wrapped) == 1:
        return Text((f'"""{wrapped[0]}"""',))
    return Text((f'"""{wrapped[0]}', "", *wrapped[1:], '"""'))


def about_sizes(graph: ir.Graph) -> list[Statement]:
    """A docstring that says which sizes a model takes; nothing for one that takes all."""
    limits = [c.text for c in traits.constraints(graph)]
    if not limits:
        return []
    line = f"For inputs of these sizes: {', '.join(limits)}."
    if len(line) <= WIDTH - len('    """"""'):
        return [docstring([line])]
    return [docstring(["For inputs of these sizes:", *limits])]


@functools.cache
def _definitions(module: ModuleType) -> dict[str, tuple[str, bool]]:
    """Name -> source of the functions and classes that a helpers module or package defines, and whether to respell it.

    A helpers package may say in ``ALSO`` where else there are some that are written once over arrays, and in
    ``SPELLING`` how it spells these (``source.arrays.spelling``); one that it defines itself takes their place.
    """
    found = {part: _blocks(part) for other in getattr(module, "ALSO", ()) for part in _parts(other)}
    own = {part: _blocks(part) for part in _parts(module)}
    ours = {name: (text, False) for blocks in own.values() for name, text in blocks.items()}
    in_order = sorted([*found, *own], key=lambda part: part.__name__.rpartition(".")[2])
    return {name: ours.get(name, (text, True)) for part in in_order for name, text in (found | own)[part].items()}


@functools.cache
def _source(module: ModuleType, name: str) -> str:
    """The source of a function or class that a helpers module or package defines, as it is printed."""
    text, is_shared = _definitions(module)[name]
    return module.SPELLING.respell(text) if is_shared else text


def _parts(module: ModuleType) -> list[ModuleType]:
    """The modules of a package; a module that is none, itself."""
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    return [importlib.import_module(f"{module.__name__}.{name}") for name in names] or [module]


def _blocks(module: ModuleType) -> dict[str, str]:
    """Name -> source of the functions and classes of one module."""
    source = inspect.getsource(module)
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: _with_decorators(source, node) for node in ast.parse(source).body if isinstance(node, kinds)}


def _with_decorators(source: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    """The source of a definition, and the comments right above it."""
    lines = source.splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    while lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])


@functools.cache
def _names(module: ModuleType, name: str) -> frozenset[str]:
    """The names that a definition of a helpers module reads."""
    return _names_of(_source(module, name))


@functools.lru_cache(maxsize=1024)
def _names_of(text: str) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))


@functools.cache
def _printed_by_use(module: ModuleType) -> frozenset[str]:
    """The helpers that are printed without the parameters that a file does not give."""
    shared = [part for other in getattr(module, "ALSO", ()) for part in _parts(other)]
    return frozenset(name for part in (*shared, *_parts(module)) for name in getattr(part, "PRINTED_BY_USE", ()))


def by_use(module: ModuleType, copied: Mapping[str, str], parts: Sequence[Statement]) -> dict[str, str]:
    """The helpers of a file, those that are printed by their use without what the file does not give or read.

    Args:
        module: The helpers.
        copied: Name -> source of each, with all that they may use.
        parts: The statements that call them.
    """
    found = trimmed(copied, parts, _printed_by_use(module))
    pending, needed = [name for part in parts for name in part.names() if name in found], set[str]()
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += _names_of(found[name]) & found.keys()
    return {name: text for name, text in found.items() if name in needed}


@functools.cache
def calls_of(module: ModuleType, name: str) -> frozenset[str]:
    """The dotted names (``ops.shape``) of what a function of a helpers module calls, itself or by other functions."""
    found, seen, pending = set[str](), set[str](), [name]
    while pending:
        current = pending.pop()
        if current in seen or current not in _definitions(module):
            continue
        tree = ast.parse(_source(module, current)).body
        if isinstance(tree[0], ast.ClassDef):  # what a class calls runs in its layer
            continue
        seen.add(current)
        called = [n.func for n in ast.walk(tree[0]) if isinstance(n, ast.Call)]
        found |= {ast.unparse(n) for n in called if isinstance(n, (ast.Name, ast.Attribute))}
        pending += _names(module, current)
    return frozenset(found)


def helpers(module: ModuleType, names: Iterable[str]) -> dict[str, str]:
    """Name -> source of the helpers among these names, and of what they use in turn, as they stand in the module."""
    known, needed = _definitions(module), set[str]()
    pending = [name for name in names if name in known]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += _names(module, name) & known.keys()
    return {name: _source(module, name) for name in known if name in needed}


@functools.cache
def definitions_of(module: ModuleType, name: str) -> tuple[str, ...]:
    """The sources of a helper and of those that it uses; none for a name that is no helper's."""
    return tuple(helpers(module, [name]).values())


def helper_names(module: ModuleType) -> Iterable[str]:
    return _definitions(module)
