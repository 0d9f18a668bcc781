"""Edits of printed files, which plant faults into them. The lists are in ``tests/helpers/edits``, one for each target.

An edit is a line with the model, what is wrong, and the nodes at which the fault may be said to be; then the text that
is printed, each line behind a ``-``, and what becomes of it behind a ``+``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.parser
import onnx.printer

FOLDER = Path(__file__).parent / "edits"


@dataclass(frozen=True)
class Edit:
    """A fault that is planted by changing a printed file.

    Attributes:
        model: The model.
        what: What is wrong then.
        nodes: The names of the nodes of the neutral form at which the fault may be said to be.
        old: Text of the file.
        new: What its first place is changed to.
    """

    model: str
    what: str
    nodes: frozenset[str]
    old: str
    new: str

    def of(self, text: str) -> str:
        """The file with the fault.

        Raises:
            ValueError: When the old text is not there: the file is printed in another way now.
        """
        if self.old not in text:
            raise ValueError(f"{self.model} has no '{self.old}' any more, in which to plant: {self.what}")
        return text.replace(self.old, self.new, 1)


def edits(to: str) -> list[Edit]:
    """The edits of what is written for a framework."""
    return [_read(part) for part in (FOLDER / f"{to}.txt").read_text(encoding="utf-8").strip().split("\n\n")]


def _read(part: str) -> Edit:
    head, *lines = part.splitlines()
    model, what, nodes = head.split(": ")
    old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    return Edit(model, what, frozenset(nodes.split()), old, new)


def of_graph(edit: Edit, file: Path) -> None:
    """Plant a fault into an ONNX file. The text that is edited has a node in each line, as ``onnx.printer`` has it."""
    model = onnx.load(file)
    lines = [onnx.printer.to_text(node).strip() for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(onnx.parser.parse_node(line) for line in edit.of("\n".join(lines)).splitlines())
    onnx.save(model, file)
