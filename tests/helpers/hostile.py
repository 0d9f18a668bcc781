"""Strings that want to be more than names, and the places in files where names stand."""

from __future__ import annotations

import ast
import builtins
import copy
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

#: What a string that was executed would set.
SENTINEL = "dlbridge_hostile_string_ran"
RUN = f"__import__('builtins').__dict__.setdefault('{SENTINEL}', 1)"
STRINGS = [
    *(f"a=({RUN})", f'a"); {RUN}; ("', f"a'); {RUN}; ('", f'a""" + str({RUN}) + """', f"a{{{RUN}}}", f"{{{RUN}}}"),
    *(f"a\n{RUN}\n", f"a\\\n{RUN}", f"a\r{RUN}\r", f"#\x0c{RUN}", f"a\u2028{RUN}", RUN, f"lambda x={RUN}: x"),
    *(
        'a"',
        "a'",
        "a\\",
        'a\\"',
        "a\\\\",
        "\\N{BULLET}",
        "\\x4",
        "\\u12",
        "a{b",
        "{}",
        "{0}",
        "{x!r:>{y}}",
        "%s",
        "$(a)",
    ),
    *("a\0b", "\ud800", "\u202egnp", "ﬁ", "А", "ª", "a²", "²", "٣", "a٣", "x́", "ℌello", "__import__", "__class__"),
    *("__debug__", "class", "None", "True", "self", "forward", "training", "super", "print", "_modules", "__init__"),
    *(
        "torch",
        "F",
        "nn",
        "keras",
        "layers",
        "ops",
        "math",
        "<layer>",
        "<buffer>",
        "a<layer>b",
        "ops.shape(x)",
        "math.pi",
    ),
    *(
        "a b",
        " ",
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a.",
        "a.0.b",
        "0",
        "00",
        "7" * 30,
        "1e9",
        "a/b",
        "../../x",
        "a:b",
        "-a",
    ),
    *("x" * 5000, "x." * 300 + "x", "[red]a[/]", "\x1b[31ma", "<script>alert(1)</script>", "&amp;", "]]>", 'a" b="c'),
]


class RanError(Exception):
    """Something in a file was executed."""


def harmless(text: str) -> str:
    """A name of the same parts, of letters, digits and underscores alone."""
    return ".".join(
        "".join(c if c.isascii() and (c.isalnum() or c == "_") else "x" for c in part) for part in text.split(".")
    )


def check_nothing_ran() -> None:
    if builtins.__dict__.pop(SENTINEL, None):
        raise RanError


def skeleton(text: str) -> str:
    """The syntax tree of a file, without its names and literals: what it does, whatever it calls things."""

    class Blank(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.Constant(type(node.value).__name__ if not isinstance(node.value, str) else "str")

        def generic_visit(self, node: ast.AST) -> ast.AST:
            for field in ("id", "attr", "arg", "name"):
                if isinstance(getattr(node, field, None), str):
                    setattr(node, field, "_")
            return super().generic_visit(node)

    return ast.dump(Blank().visit(ast.parse(text)))


def calls(text: str) -> set[str]:
    """The names of builtins and modules that a file reads, and the special attributes."""
    tree = ast.parse(text)
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    special = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("__")}
    return {n for n in names if hasattr(builtins, n) or n in sys.stdlib_module_names} | special


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """(path, string) of every string in JSON; a key of a mapping is at its value's path and ``...``."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield (*path, key, ...), key
            yield from places(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, (*path, index))


def field(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a place is called, wherever it stands: its last names."""
    return tuple(part for part in path if not isinstance(part, int))[-2:]


def put(tree: Any, path: tuple[Any, ...], text: str) -> Any:
    """The JSON with another string at a path; other uses of the same string stay."""
    tree = copy.deepcopy(tree)
    keyed = path[-1] is ...
    *way, last = path[:-1] if keyed else path
    owner = tree
    for part in way:
        owner = owner[part]
    if keyed:
        items = [(text if key == last else key, value) for key, value in owner.items()]
        owner.clear()
        owner.update(items)
    else:
        owner[last] = text
    return tree


def rename(tree: Any, old: str, new: str) -> Any:
    """The JSON with a string replaced wherever it stands as a whole."""
    if isinstance(tree, dict):
        return {(new if key == old else key): rename(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [rename(value, old, new) for value in tree]
    return new if tree == old else tree


def string_fields(message: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Callable[[str], None]]]:
    """(path, setter) of every field of a protobuf message that holds a string, or bytes that are one."""
    for field, value in message.ListFields():
        name, repeated = field.name, not hasattr(value, "ListFields") and field.is_repeated
        if field.message_type is not None:
            for index, item in enumerate(value if repeated else [value]):
                yield from string_fields(item, (*path, name, index))
        elif field.type == field.TYPE_STRING or (field.type == field.TYPE_BYTES and name in ("s", "strings")):
            encode = field.type == field.TYPE_BYTES
            for index in range(len(value) if repeated else 1):
                yield (*path, name, index), _setter(message, name, index if repeated else None, encode)


def _setter(message: Any, name: str, index: int | None, encode: bool) -> Callable[[str], None]:
    def put_string(text: str) -> None:
        value: Any = text.encode("utf-8", "surrogatepass") if encode else text
        if index is None:
            setattr(message, name, value)
        else:
            getattr(message, name)[index] = value

    return put_string


def dumps(tree: Any) -> bytes:
    return json.dumps(tree).encode()
