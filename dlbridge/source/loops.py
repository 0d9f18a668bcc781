"""Loops: statements that are the same again and again, but for a part that counts, become a ``for``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

INDENT = "    "
#: How many statements the body of a loop may have.
MAX_BODY = 4


@dataclass(frozen=True)
class Loop:
    """A loop over as many of the parts as it takes: what heads it, and what stands for the part in its body."""

    head: str
    part: str
    count: int


def roll(lines: list[str], counted: re.Pattern[str], loop: Callable[[list[str]], Loop | None]) -> list[str]:
    """The statements with loops.

    Args:
        lines: One statement each.
        counted: What differs between the rounds of a loop; once in each.
        loop: From the parts that it matches in rounds that are the same otherwise, what loops over the first of them.
    """
    out: list[str] = []
    index = 0
    while index < len(lines):
        for size in range(1, MAX_BODY + 1):
            parts = _parts(lines[index:], size, counted)
            found = loop(parts) if len(parts) > 1 else None
            if found is not None:
                body = "\n".join(lines[index : index + size])
                text = counted.sub(lambda _, part=found.part: part, body)  # type: ignore[misc]
                out += [found.head, *(INDENT + line for line in text.split("\n"))]
                index += size * found.count
                break
        else:
            out.append(lines[index])
            index += 1
    return out


def _parts(lines: list[str], size: int, counted: re.Pattern[str]) -> list[str]:
    """What counts, in as many rounds of ``size`` statements as are the same otherwise."""
    parts: list[str] = []
    first = None
    for start in range(0, len(lines) - size + 1, size):
        text = "\n".join(lines[start : start + size])
        found = counted.findall(text)
        rest = counted.sub("\0", text)
        if len(found) != 1 or rest != (first or rest):
            break
        parts += found
        first = rest
    return parts
