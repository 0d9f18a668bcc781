"""The part of a printed file that trains a model with a training specification."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.source.names import identifier
from dlbridge.source.training.regularized import comment
from dlbridge.source.training.text import Loop, instead, missing
from dlbridge.source.tree.statements import Statement, Text, fit


@dataclass(frozen=True)
class TrainingPrinter:
    """How a framework prints the function that trains a model.

    Attributes:
        losses: The losses that it has.
        optimizers: Of an optimizer's specification, the kinds that it has as that wants them.
        taken: Names that the lines of the function use.
        lines: The lines of the function, behind its head.
        has_loop: Whether these go over epochs and batches themselves, whose numbers are parameters then.
        lacks: Of a specification and the output that its loss reads, what the framework has no loss for.
    """

    losses: Collection[str]
    optimizers: Callable[[Any], Collection[str]]
    taken: tuple[str, ...]
    lines: Callable[[Loop], list[str]]
    has_loop: bool = True
    lacks: Callable[[Any, ir.Value], str | None] = lambda spec, output: None

    def printed(self, model: Model) -> list[str]:
        """The lines for a model, or a comment that says why there are none."""
        spec = model.training
        assert spec is not None
        why = missing(spec, self.losses, self.optimizers(spec.optimizer))
        if why is not None:
            return instead(why)
        inputs = [identifier(value.name or "x") for value in model.inputs]
        loop = Loop(spec, inputs, model, self.taken)
        why = self.lacks(spec, loop.output)
        if why is not None:
            return instead(why)
        return [*loop.head(self.has_loop), *self.lines(loop)]


def training_part(model: Model, printer: TrainingPrinter) -> list[Statement]:
    """The function that trains a model, as a framework prints it; nothing without a specification."""
    if model.training is None:
        return []
    lines = printer.printed(model)
    lines[1:1] = comment(model.graph)
    return [Text.of([part for line in lines for part in fit(line)])]
