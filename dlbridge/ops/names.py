"""Names in a graph: unique ones, and ones that are Python identifiers."""

from __future__ import annotations

import bisect
import keyword
import re
import unicodedata
from collections.abc import Collection

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


def prefixes(path: str) -> list[str]:
    """A dotted path and what it stands in, from the outside in: a, a.b, a.b.c."""
    parts = path.split(".") if path else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
