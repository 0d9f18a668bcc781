"""What a framework calls the functions of arrays: in code that rules write, and in helpers that are written once."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The name by which helpers read functions of arrays.
NEUTRAL = "ops"


@dataclass(frozen=True)
class Spelling:
    """What functions of arrays are called.

    Attributes:
        prefix: What stands before the name of a function: ``"jnp."``.
        names: Function, as ``keras.ops`` calls it -> what it is called here, where that is not the prefix and its name.
    """

    prefix: str
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, function: str) -> str:
        """What a function is called that ``keras.ops`` calls so."""
        return self.names.get(function, self.prefix + function)

    def respell(self, source: str) -> str:
        """The source of a helper with ``ops.function`` as it is called here."""
        lines = source.split("\n")
        found = [node for node in ast.walk(ast.parse(source)) if _is_neutral(node)]
        for node in sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line[: node.col_offset] + self.name(node.attr) + line[node.end_col_offset :]
        return "\n".join(lines)


def _is_neutral(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == NEUTRAL
