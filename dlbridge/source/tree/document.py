"""Documents: text with brackets that may be broken over lines, as formatters of code break them.

A document is a sequence of words and brackets; a bracket holds documents. ``lines`` lays one out: on one line where it
fits, else the longest of its outermost brackets is broken: what that holds stands on a line of its own, or, where that
is too long, each item does.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

WIDTH = 100
INDENT = "    "
#: More numbers than these are not written one below the other.
_IN_A_COLUMN = 8


@dataclass(frozen=True)
class Bracket:
    """``open item, item close``.

    ``comma`` is whether one item has a comma behind it too (a tuple); ``numbers`` is whether all items are numbers.
    """

    open: str
    items: tuple[Document, ...]
    close: str
    comma: bool = False
    numbers: bool = False


Document = tuple[str | Bracket, ...]


def flat(document: Document) -> str:
    """A document on one line."""
    return "".join(part if isinstance(part, str) else f"{part.open}{_inner(part)}{part.close}" for part in document)


def lines(document: Document, indent: str = "", width: int = WIDTH) -> list[str]:
    """A document on as few lines as it fits on."""
    text = indent + flat(document)
    if len(text) <= width:
        return [text]
    place = _longest(document)
    if place is None:
        return [text]
    bracket = document[place]
    assert isinstance(bracket, Bracket)
    head, tail = (*document[:place], bracket.open), (bracket.close, *document[place + 1 :])
    return [indent + flat(head), *_broken(bracket, indent + INDENT, width), *lines(tail, indent, width)]


def _broken(bracket: Bracket, indent: str, width: int) -> list[str]:
    """What a broken bracket holds."""
    inner = indent + _inner(bracket)
    if len(inner) <= width:
        return [inner]
    comma = "," if len(bracket.items) > 1 or bracket.comma else ""
    if bracket.numbers and len(bracket.items) > _IN_A_COLUMN:
        filled = textwrap.wrap(_inner(bracket) + comma, width - len(indent), break_on_hyphens=False)
        return [indent + part for part in filled]
    return [line for item in bracket.items for line in lines((*item, comma), indent, width)]


def _inner(bracket: Bracket) -> str:
    comma = "," if bracket.comma and len(bracket.items) == 1 else ""
    return ", ".join(map(flat, bracket.items)) + comma


def _longest(document: Document) -> int | None:
    """The place of the longest of the outermost brackets that hold something."""
    found = {i: len(flat((p,))) for i, p in enumerate(document) if isinstance(p, Bracket) and p.items}
    return max(found, key=found.__getitem__) if found else None
