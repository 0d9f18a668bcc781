"""Passes that look at one node after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.unused import remove_unused


def rewrite(graph: ir.Graph, rule: Callable[[Site], object], *keys: str) -> bool:
    """Let a rule rewrite each node of these ops, or each node where none is named; in place.

    Returns:
        Whether anything was changed.
    """
    rewriter = Rewriter(graph)
    for site in rewriter.sites(*keys):
        rule(site)
    return rewriter.changed


def legalise(graph: ir.Graph, name: str, ops: Iterable[str], rule: Callable[[Site], object]) -> Rewriter:
    """Let a rule say nodes of some ops in the domain of a framework, and remove what nothing reads any more; in place.

    Args:
        graph: The graph; subgraphs stay as they are.
        name: What refusals call the rule.
        ops: Keys of ops, as :func:`dlbridge.ops.keys.op_key` gives them.
        rule: Changes a node, or leaves it alone.

    Returns:
        The rewriter, which knows whether anything was changed.
    """
    rewriter = Rewriter(graph)
    rewriter.rule = name
    for site in rewriter.sites(*ops):
        rule(site)
    if rewriter.changed:
        remove_unused(graph)
    return rewriter
