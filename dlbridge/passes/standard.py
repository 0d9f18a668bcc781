"""The passes that every route has: types, folding, lifting; and ways to make passes of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import onnx_ir as ir

from dlbridge.passes import shapes
from dlbridge.passes.fold import fold
from dlbridge.passes.lift import lift
from dlbridge.passes.pipeline import Fact, Pass

_TYPES: Final[frozenset[Fact]] = frozenset({"types"})
_FOLDED: Final[frozenset[Fact]] = frozenset({"folded"})
EVERYTHING: Final[frozenset[Fact]] = _TYPES | _FOLDED

INFER = Pass("infer", shapes.infer, "Set dtype and shape of every value.", provides=_TYPES)
REFINE = Pass(
    "refine",
    shapes.infer_open,
    "Infer again where a size is still open: what has become constant may tell it.",
    requires=_TYPES,
    keeps=_TYPES,
)
FOLD = Pass(
    "fold",
    fold,
    "Compute what follows from constants; remove what does nothing or is not used.",
    requires=_TYPES,
    provides=_FOLDED,
    keeps=_TYPES,
)
LIFT = Pass("lift", lift, "Raise patterns of plain ops to layers.", requires=_TYPES, keeps=_TYPES)


def graph_pass(run: Callable[[ir.Graph], bool | None], does: str) -> Pass:
    """A pass of a function of the main graph, under the name of the function."""
    return Pass(run.__name__, on_graph(run), does)


def on_graph(function: Callable[..., bool | None], *arguments: Any) -> Callable[[ir.Model], bool | None]:
    """A function of a main graph as one of its model."""
    return lambda model: function(model.graph, *arguments)


def renaming(name: str, run: Callable[[ir.Model], bool | None], does: str) -> Pass:
    """A pass that changes names alone: types and foldings stay."""
    return Pass(name, run, does, keeps=EVERYTHING)
