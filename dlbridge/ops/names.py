"""Names in a graph: unique ones, and ones that are Python identifiers."""

from __future__ import annotations

import bisect
import keyword
import re
import unicodedata

#: How many numbers are tried one by one.
_STEPS = 32


def identifier(text: str) -> str:
    """Text as a Python identifier: what cannot stand in one becomes an underscore."""
    text = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text)).strip("_") or "x"
    if not f"_{text}".isidentifier():  # a digit of another script, a superscript
        text = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "x"
    text = f"{text}_" if keyword.iskeyword(text) else text
    return text if not text[0].isdigit() else f"_{text}"


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
