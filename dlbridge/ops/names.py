"""Names in a graph: unique ones, and ones that are Python identifiers."""

from __future__ import annotations

import bisect
import keyword
import re
import unicodedata
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

#: How many numbers are tried one by one.
_STEPS = 32


def python_name(
    text: str, fallback: str = "x", *, reserved: Collection[str] = keyword.kwlist, ascii_only: bool = False
) -> str:
    """Text as a name that Python accepts: what cannot be in one becomes an underscore.

    Args:
        text: Any text.
        fallback: The name of a text of which nothing is left.
        reserved: Names that get an underscore at the end.
        ascii_only: Whether letters of other scripts become underscores too.
    """
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text)).strip("_")
    if ascii_only or not f"_{name}".isidentifier():  # a digit of another script, a superscript
        name = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    if not name:
        return fallback
    if name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if name in reserved else name


def unique(name: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it new; it is taken then."""
    fresh, number = name, 0
    while fresh in taken:
        number += 1 if number < _STEPS else number  # far beyond a handful in strides: not one by one each time
        fresh = f"{name}_{number}"
    if number > _STEPS:
        free = range(number // 2 + 1, number + 1)
        number = free[bisect.bisect_left(free, True, key=lambda tried: f"{name}_{tried}" not in taken)]
        fresh = f"{name}_{number}"
    taken.add(fresh)
    return fresh


def ports(graph: ir.Graph) -> list[ir.Value]:
    """The inputs and the outputs of a graph, each once; no weights."""
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    return list({id(value): value for value in (*inputs, *graph.outputs)}.values())


def make_room(graph: ir.Graph, wanted: set[str]) -> None:
    """Give values within the graph, and within its branches and loops, other names than these, in place. Its inputs,
    outputs and weights keep theirs."""
    kept = set(map(id, ports(graph)))
    graphs = [graph, *graph.subgraphs()]
    values = [value for part in graphs for node in part for value in node.outputs]
    values += [value for part in graphs[1:] for value in part.inputs]
    taken = {*graph.initializers, *(str(value.name) for value in values), *wanted}
    for value in values:
        if value.name in wanted and id(value) not in kept:
            value.name = unique(value.name, taken)


def prefixes(path: str) -> list[str]:
    """A dotted path and what it stands in, from the outside in: a, a.b, a.b.c."""
    parts = path.split(".") if path else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
