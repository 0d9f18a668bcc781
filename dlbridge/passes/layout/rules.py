"""The table of rules: when the transpose of an input can go behind an op, and how.

Each rule is a law ``op(transpose(x)) == transpose(op'(x))``; the property test runs them all on random graphs.
"""

from __future__ import annotations

from collections.abc import Callable

from dlbridge.passes.rewriter import Site

#: Moves a transpose behind a node, after a rule has found that this is right.
Move = Callable[[], None]
#: Returns how a transpose (given by its permutation) of an input of a node can go behind the node; None if it cannot.
Rule = Callable[[Site, list[int]], Move | None]
#: (domain, op type) -> the rule.
RULES: dict[tuple[str, str], Rule] = {}


def rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the rule of these ops."""

    def register(function: Rule) -> Rule:
        RULES.update({(domain, op_type): function for op_type in op_types})
        return function

    return register
