"""Calls of all modules of a list, or of all modules that there are, one after the other, become a loop."""

from __future__ import annotations

import re

from dlbridge.source.loops import Loop, roll
from dlbridge.source.names import Names, identifier, is_index

#: The call of a module that one of a loop may be.
CALLED = re.compile(r"(?<== )self\.[\w.]+(?:\[[0-9]+\]|(?<=[0-9]))(?=\()")
#: With fewer children than this, call each by name instead of looping over all of them.
MIN_CHILDREN = 4


def module_loops(lines: list[str], members: list[str], children: str | None) -> list[str]:
    """The lines of a body with loops.

    Args:
        lines: One statement each.
        members: The names of all that the class makes, in that order.
        children: An expression of all modules, as in ``Dialect``.
    """
    words = set(re.findall(r"\w+", "\n".join(lines)))

    def loop(parts: list[str]) -> Loop | None:
        name, _, index = parts[0].removeprefix("self.").partition("[")
        if index:
            over, called = f"self.{name}", [m for m in members if is_item(m, name)]
            if any(m.startswith(f"{name}.") and not is_index(m[len(name) + 1 :].partition(".")[0]) for m in members):
                return None  # the list would go through what has a name too
            singular = name.rpartition(".")[2].rstrip("s_0123456789")
            word = singular if singular and singular != name.rpartition(".")[2] else "layer"
            wanted = [f"{over}[{i}]" for i in range(len(called))]
        elif children is None:
            return None
        else:
            over, called, word = children, members, re.sub(r"[0-9]+$", "", name)
            wanted = [f"self.{m}" for m in members if re.sub(r"[0-9]+$", "", m) == word]
            if len(wanted) < MIN_CHILDREN:
                return None
        if len(wanted) != len(called) or parts[: len(wanted)] != wanted:
            return None
        word = identifier(word) if identifier(word) not in words else Names(*words).fresh("layer")
        return Loop(f"for {word} in {over}:", word, len(wanted))

    return roll(lines, CALLED, loop)


def is_item(name: str, container: str) -> bool:
    return name.startswith(container + ".") and is_index(name[len(container) + 1 :])
