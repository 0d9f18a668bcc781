"""Where a form of a model departs from the judge, and what is known of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from dlbridge.model import Model
from dlbridge.source.program import WRITTEN_FILE
from dlbridge.verification.measure import Arrays


@dataclass
class Departure:
    """Where a form of a model first departs from the judge.

    Attributes:
        text: What is found, as a sentence.
        node: The name of the first node whose inputs agree and whose outputs do not; None if it is not known.
        op: The op of that node.
        modules: The path of the modules around it, with their classes, from the outside.
        line: The number of the line of the written file that computes it, and its text; None where that is not known.
        cause: What the node computes instead, if a change of the node was found that gives the same numbers.
        single: The node as a model of its own.
        inputs: Its inputs.
        right: The outputs that it should have.
        found: The output that the form has instead; None where it cannot be told which that is.
    """

    text: str
    node: str | None = None
    op: str = ""
    modules: str = ""
    line: tuple[int, str] | None = None
    cause: str = ""
    single: Model | None = None
    inputs: Arrays = field(default_factory=dict)
    right: Arrays = field(default_factory=dict)
    found: np.ndarray | None = None

    def __str__(self) -> str:
        parts = [self.text]
        if self.modules:
            parts.append(f"in {self.modules}")
        if self.line is not None:
            parts.append(f"line {self.line[0]} of the written file: {self.line[1].strip()}")
        if self.cause:
            parts.append(f"likely cause: {self.cause}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        said = {name: getattr(self, name) for name in ("text", "node", "op", "modules", "cause")}
        return {**said, "line": None if self.line is None else {"number": self.line[0], "text": self.line[1]}}


class Traced(list[np.ndarray]):
    """The arrays that a form of the model has computed, in order, with the line of its written file each.

    Attributes:
        lines: The line of the written file that was executed; None where no written file was.
    """

    def __init__(self, arrays: Iterable[np.ndarray] = ()) -> None:
        super().__init__(arrays)
        self.lines: list[int | None] = [None] * len(self)

    def append(self, array: np.ndarray) -> None:
        super().append(array)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(WRITTEN_FILE):
            frame = frame.f_back
        self.lines.append(None if frame is None else frame.f_lineno)
