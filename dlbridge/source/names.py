"""Names in printed code: identifiers that read well and do not clash."""

from __future__ import annotations

import builtins
import keyword
import re

_TAKEN = set(keyword.kwlist) | set(keyword.softkwlist) | set(dir(builtins))


def identifier(text: str, fallback: str = "x") -> str:
    """A Python identifier near to ``text``."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if not name:
        return fallback
    if name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if name in _TAKEN else name


def class_name(text: str) -> str:
    """``basic_block`` -> ``BasicBlock``; a name that is in CamelCase already stays."""
    words = [w for w in re.split(r"\W|_", text) if w]
    name = "".join(w[0].upper() + w[1:] for w in words)
    return identifier(name, "Block") if name and not name[0].isdigit() else f"Block{name}"


def snake_case(text: str) -> str:
    """``BasicBlock`` -> ``basic_block``."""
    return identifier(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower(), "block")


class Names:
    """Gives out names that are not taken yet."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ``wanted_2``, ... when it is taken."""
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    @property
    def taken(self) -> frozenset[str]:
        return frozenset(self._taken)

    def take(self, name: str) -> str:
        self._taken.add(name)
        return name
