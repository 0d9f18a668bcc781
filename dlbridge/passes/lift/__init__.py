"""Lift: patterns of plain ops become the layers that they compute, so that code has ``Linear`` instead of ``x @ w``.

Each rule is a function registered for the op that its pattern ends in (``pattern.rule``). A rule keeps the meaning for
every input, up to rounding; if it cannot tell that it does, it leaves the graph alone. Weights are changed lazily.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.ops.keys import op_key
from dlbridge.passes.lift import (  # noqa: F401  (rules)
    activation,
    attention,
    buckets,
    convolution,
    indexing,
    linear,
    normalization,
    piecewise,
    pooling,
    recurrent,
    rotary,
)
from dlbridge.passes.lift.masks import lift_masks
from dlbridge.passes.lift.pattern import RULES, Lifter
from dlbridge.passes.matching import Match
from dlbridge.passes.unused import remove_unused

#: A pattern may contain layers that were lifted before: the rules run this often, enough for the deepest of them.
_ROUNDS = 4


def lift(model: ir.Model, within: Callable[[ir.Node], bool] = lambda node: True) -> bool:
    """Raise the patterns of a model to layers, in place. Shapes must be inferred.

    Args:
        model: The model.
        within: Whether a pattern may end in a node.

    Returns:
        Whether there was one.
    """
    lifter, changed = Lifter(model.graph), False
    for _ in range(_ROUNDS):
        lifter.changed = False
        for node in list(model.graph.all_nodes()):
            if within(node):
                _lift_node(node, lifter)
        remove_unused(model.graph)
        if not lifter.changed:
            break
        changed = True
    lifter.changed = False
    lift_masks(model.graph, lifter)
    remove_unused(model.graph)
    changed |= lifter.changed
    extension.attach_functions(model)
    return changed


def _lift_node(node: ir.Node, lifter: Lifter) -> None:
    """Try the rules of a node's op in order, until one has changed the graph."""
    for rule in RULES.get(op_key(node), ()):
        if node.graph is None:  # another pattern has taken it in
            return
        lifter.rule = rule.__name__
        if rule(Match(node), lifter):
            return
