"""Rules of the upgrade: how they are registered, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable

from dlbridge.ops import traits
from dlbridge.passes.rewriter import Site

#: ``below`` of the rules that bring a node into inference form, whatever its opset.
ALWAYS = traits.IR_OPSET + 1


class CannotUpgradeError(Exception):
    """A node means something that the ops of ``IR_OPSET`` cannot express."""


Rule = Callable[[Site], None]
#: Op type -> [(opset below which the rule applies, rule)], in the order of the opsets.
RULES: dict[str, list[tuple[int, Rule]]] = {}


def rule(*op_types: str, below: int) -> Callable[[Rule], Rule]:
    """Register what changes in these ops for graphs of an opset below ``below``."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            RULES.setdefault(op_type, []).append((below, function))
            RULES[op_type].sort(key=lambda entry: entry[0])
        return function

    return register


def drop_outputs(site: Site, keep: int, why: str) -> None:
    """Remove outputs that nobody reads.

    Raises:
        CannotUpgradeError: When one is read.
    """
    if any(site.is_read(index) for index in range(keep, len(site.node.outputs))):
        raise CannotUpgradeError(why)
    if len(site.node.outputs) > keep:
        site.node.resize_outputs(keep)
        site.rewriter.changed = True
