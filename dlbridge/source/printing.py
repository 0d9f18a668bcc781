"""Printing: lines of code that fit the width, helpers that are copied into the file when used."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.names import quoted

WIDTH = 100
INDENT = "    "
_OPEN, _CLOSE = "([{", ")]}"
_NUMBER = re.compile(r"[-+\d.e]+|True|False")
#: More numbers than these are not written one below the other.
_IN_A_COLUMN = 8
#: A string of printed code; f-strings hold no strings in their braces.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'")
_DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


def modules_used(text: str) -> set[str]:
    """The names whose attributes a file reads: ``torch`` of ``torch.zeros``."""
    attributes = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    return {value.id for value in attributes if isinstance(value, ast.Name)}


def file(body: str, module: ModuleType, imported: Callable[[set[str]], Iterable[str]]) -> str:
    """A file: imports, the helpers that the body calls, the body.

    Args:
        body: What was written.
        module: The helpers.
        imported: From the names whose attributes the file reads, the import statements, but for the standard library.
    """
    everything = "\n\n\n".join([*helpers(module, body), body])
    used = modules_used(everything)
    imports = [*(["import math\n"] if "math" in used else []), *imported(used)]
    return "\n".join(imports) + "\n\n\n" + everything + "\n"


def without_strings(text: str) -> str:
    """An expression whose strings are empty: what it says must not be found in a name."""
    return _STRING.sub('""', text)


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The characters of code that are in no string, each with its place."""
    end = 0
    for string in _STRING.finditer(text):
        yield from enumerate(text[end : string.start()], end)
        end = string.end()
    yield from enumerate(text[end:], end)


def fit(line: str, width: int = WIDTH) -> list[str]:
    """Break a line that is too long at its brackets as code formatters do: what they hold on one line, else on many;
    but long lists of numbers fill their lines."""
    if len(line) <= width:
        return [line]
    group = _group(line)
    if group is None:
        return [line]
    start, end = group
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    head, inner, tail = line[: start + 1], line[start + 1 : end], line[end:]
    body = indent + inner
    closing = indent[4:] + tail
    if len(body) <= width:
        return [head, body, *fit(closing, width)]
    lines, items = [head], _split(inner)
    comma = "," if len(items) > 1 else ""  # (a) and (a,) are not the same
    if len(items) > _IN_A_COLUMN and all(map(_NUMBER.fullmatch, items)):
        filled = textwrap.wrap(", ".join(items) + comma, width - len(indent), break_on_hyphens=False)
        return [head, *(indent + part for part in filled), *fit(closing, width)]
    for item in items:
        lines += fit(f"{indent}{item}{comma}", width)
    return [*lines, *fit(closing, width)]


def _group(line: str) -> tuple[int, int] | None:
    """The outermost bracket pair to break: the longest."""
    depth, start, best = 0, 0, None
    for i, c in _outside_strings(line):
        if c in _OPEN:
            start = i if depth == 0 else start
            depth += 1
        elif c in _CLOSE:
            depth -= 1
            if depth == 0 and i > start + 1 and (best is None or i - start > best[1] - best[0]):
                best = (start, i)
    return best


def _split(text: str) -> list[str]:
    """Cut at the commas outside brackets and strings."""
    items, depth, begin = [], 0, 0
    for i, c in _outside_strings(text):
        if c in _OPEN:
            depth += 1
        elif c in _CLOSE:
            depth -= 1
        elif c == "," and depth == 0:
            items.append(text[begin:i].strip())
            begin = i + 1
    rest = text[begin:].strip()
    return [*items, rest] if rest else items


def docstring(lines: list[str], indent: str) -> list[str]:
    """A docstring of these lines, wrapped. What could end it, or begin an escape, is escaped."""
    texts = [quoted(line.replace('"', "'"))[1:-1] for line in lines]
    wrapped = [part for text in texts for part in textwrap.wrap(text, WIDTH - len(indent), break_long_words=False)]
    if len(wrapped) == 1:
        return [f'{indent}"""{wrapped[0]}"""']
    return [f'{indent}"""{wrapped[0]}', "", *(f"{indent}{line}" for line in wrapped[1:]), f'{indent}"""']


def about_sizes(graph: ir.Graph, indent: str) -> list[str]:
    """A docstring that says which sizes a model takes; nothing for one that takes all."""
    limits = [c.text for c in traits.constraints(graph)]
    return docstring([f"For inputs of these sizes: {', '.join(limits)}."], indent) if limits else []


@functools.cache
def _definitions(module: ModuleType) -> dict[str, str]:
    """Name -> source of the functions and classes that a helpers module or package defines.

    A helpers package may say in ``ALSO`` where else there are some that are written once over arrays, and in
    ``SPELLING`` how it spells these (``source.arrays.spelling``); one that it defines itself takes their place.
    """
    elsewhere = [part for other in getattr(module, "ALSO", ()) for part in _parts(other)]
    respell = module.SPELLING.respell if elsewhere else str
    found = {part: {name: respell(text) for name, text in _blocks(part).items()} for part in elsewhere}
    own = {part: _blocks(part) for part in _parts(module)}
    ours = {name: text for blocks in own.values() for name, text in blocks.items()}
    in_order = sorted([*found, *own], key=lambda part: part.__name__.rpartition(".")[2])
    return {name: ours.get(name, text) for part in in_order for name, text in (found | own)[part].items()}


def _parts(module: ModuleType) -> list[ModuleType]:
    """The modules of a package; a module that is none, itself."""
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    return [importlib.import_module(f"{module.__name__}.{name}") for name in names] or [module]


def _blocks(module: ModuleType) -> dict[str, str]:
    """Name -> source of the functions and classes of one module."""
    blocks = [block.strip("\n") for block in inspect.getsource(module).split("\n\n\n")]
    return {found[1]: block for block in blocks if (found := _DEFINED.search(block))}


@functools.cache
def _used(module: ModuleType, name: str) -> frozenset[str]:
    """The definitions of a helpers module that one of them uses."""
    known = _definitions(module)
    return frozenset(n.id for n in ast.walk(ast.parse(known[name])) if isinstance(n, ast.Name)) & known.keys()


def helpers(module: ModuleType, text: str) -> list[str]:
    """Source of the functions and classes of ``module`` that ``text`` calls, and of what these call in turn."""
    return _sources(module, _definitions(module), _names_read(ast.parse(text)))


def _names_read(tree: ast.Module) -> set[str]:
    """The names that code reads, but for the variables of its functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            around = [n for part in (*node.bases, *node.decorator_list) for n in ast.walk(part)]
            found |= {n.id for n in around if isinstance(n, ast.Name)}
        elif isinstance(node, ast.FunctionDef):
            names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            local = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
            local |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
            found |= {n.id for n in names if isinstance(n.ctx, ast.Load)} - local
    return found


def functions_called(module: ModuleType, words: Iterable[str]) -> list[str]:
    """As ``helpers``, of the functions (not the classes) among these words."""
    return _sources(module, _functions(module), words)


@functools.cache
def _functions(module: ModuleType) -> dict[str, str]:
    return {name: source for name, source in _definitions(module).items() if f"class {name}" not in source}


def _sources(module: ModuleType, known: dict[str, str], words: Iterable[str]) -> list[str]:
    """Those of the known definitions that these words name, and what they use."""
    needed: set[str] = set()
    pending = [word for word in words if word in known]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += _used(module, name) & known.keys()
    return [known[name] for name in known if name in needed] if needed else []


def helper_names(module: ModuleType) -> Iterable[str]:
    return _definitions(module)
