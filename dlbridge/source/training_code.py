"""The part of a printed file that trains a model with a training specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.source.names import identifier
from dlbridge.source.regularized import comment
from dlbridge.source.statements import Statement, Text, fit


def training_part(model: Model, loop: Callable[[Any, list[str], Sequence[ir.Value]], list[str]]) -> list[Statement]:
    """The function that trains a model, as a framework writes it; nothing without a specification.

    Args:
        model: The model.
        loop: (specification, names of the inputs, outputs) -> the lines of the function.
    """
    if model.training is None:
        return []
    inputs = [identifier(value.name or "x") for value in model.inputs]
    lines = loop(model.training, inputs, model.outputs)
    lines[1:1] = comment(model.graph)
    return [Text.of([part for line in lines for part in fit(line)])]
