"""``prepare``: the passes that every writer of code runs before it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlbridge.passes.operands import SPLIT_OPERANDS
from dlbridge.passes.pipeline import LAST, Pipeline
from dlbridge.passes.small_integers import WIDEN_SMALL_INTEGERS
from dlbridge.passes.stacked import STACK_SLICES
from dlbridge.passes.standard import FOLD, INFER, REFINE

if TYPE_CHECKING:
    from dlbridge.model import Model

#: The first passes. A model may have been changed since it was read, so its types are inferred here.
PREPARE = Pipeline(LAST, [INFER, FOLD, REFINE, WIDEN_SMALL_INTEGERS])
#: The last ones: what libraries of arrays say in one call, and what is too long for one expression.
FINISH = (STACK_SLICES, SPLIT_OPERANDS)

__all__ = ["prepare"]


def prepare(model: Model) -> Model:
    """A copy with constants folded, no-ops removed, every dtype and shape inferred, and quantised numbers in bytes."""
    model = model.clone()
    PREPARE(model.ir)
    return model
