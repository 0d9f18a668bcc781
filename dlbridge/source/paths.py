"""Dotted paths as a framework can say them: each part is a name that it takes, and no two paths become one."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.ops import traits


class Paths:
    """Respells the paths of a model.

    Args:
        spell: A part of a path as the framework takes it.
        word: What must differ between two paths (an attribute that is made of the whole path, say).
    """

    def __init__(self, spell: Callable[[str], str], word: Callable[[str], str] = lambda path: path) -> None:
        self._spell, self._word = spell, word
        self._found = {"": ""}
        self._taken: set[str] = set()

    def __call__(self, path: str) -> str:
        """The path as the framework says it; always the same one for the same path."""
        if path not in self._found:
            owner, _, last = path.rpartition(".")
            around = f"{self(owner)}." if owner else ""
            part = self._spell(last)
            fresh, number = part, 0
            while self._word(around + fresh) in self._taken:
                number += 1
                fresh = f"{part}_{number}"
            self._taken.add(self._word(around + fresh))
            self._found[path] = around + fresh
        return self._found[path]

    def of(self, spelled: str) -> list[str]:
        """The paths that the framework says so."""
        return [path for path, found in self._found.items() if found == spelled]

    def respell(self, graph: ir.Graph) -> None:
        """Respell the paths of the nodes and blocks of a graph, in place."""
        for node in graph:
            node.name = self(node.name or "")
        blocks = traits.blocks(graph)
        traits.set_blocks(graph, {self(path): name for path, name in blocks.items()})
