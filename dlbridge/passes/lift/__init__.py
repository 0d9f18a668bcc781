"""Lift: patterns of plain ops become the layers that they are, so that the written code has ``Linear``, not ``x @ w``.

Each rule is a function registered for the op that its pattern ends in (``pattern.rule``). A rule keeps the meaning for
every input, to rounding; where it cannot tell that it does, it leaves the graph alone. Weights are changed lazily.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import extension
from dlbridge.ops.keys import op_key
from dlbridge.passes.fold import remove_unused
from dlbridge.passes.lift import (  # noqa: F401  (rules)
    activation,
    attention,
    convolution,
    linear,
    normalization,
    pooling,
    recurrent,
)
from dlbridge.passes.lift.pattern import RULES, Lifter

#: A pattern may be made of lifted ones; deeper than this none of ours is.
_ROUNDS = 4


def lift(model: Model, within: Callable[[ir.Node], bool] = lambda node: True) -> None:
    """Raise the patterns of a model to layers, in place. Shapes must be inferred.

    Args:
        model: The model.
        within: Whether a pattern may end in a node.
    """
    lifter = Lifter(model.graph)
    for _ in range(_ROUNDS):
        changed = False
        for node in list(model.graph.all_nodes()):
            for rule in RULES.get(op_key(node), ()) if within(node) else ():
                if node.graph is not None and rule(node, lifter):
                    changed = True
                    break
        remove_unused(model.graph)
        if not changed:
            break
    extension.attach_functions(model.ir)
