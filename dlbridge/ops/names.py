"""Names in a graph: unique ones, and ones that are Python identifiers."""

from __future__ import annotations

import keyword
import re


def identifier(text: str) -> str:
    """Text as a Python identifier: what cannot stand in one becomes an underscore."""
    text = re.sub(r"\W+", "_", text).strip("_") or "x"
    text = f"{text}_" if keyword.iskeyword(text) else text
    return text if not text[0].isdigit() else f"_{text}"


def unique(name: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it new; it is taken then."""
    fresh, number = name, 0
    while fresh in taken:
        number += 1
        fresh = f"{name}_{number}"
    taken.add(fresh)
    return fresh


def prefixes(path: str) -> list[str]:
    """A dotted path and what it stands in, from the outside in: a, a.b, a.b.c."""
    parts = path.split(".") if path else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
