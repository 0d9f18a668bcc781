"""Legalise global pools of what is turned for them: a mean of the axes, not a transpose, a pool and a squeeze."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.matching import is_read_once, match, permutation, sole_producer
from dlbridge.passes.node_by_node import legalise
from dlbridge.passes.rewriter import Site

_REDUCTIONS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def pooled_axes(graph: ir.Graph) -> bool:
    """Let ``x.mean(1)`` stand for a pool of a sequence whose features are last, in place.

    Returns:
        Whether there was one.
    """
    return legalise(graph, "pooled_axes", _REDUCTIONS, _legalise).changed


def _legalise(site: Site) -> bool:
    turn, rank = sole_producer(site.operand(0), "Transpose"), site.rank()
    perm = None if turn is None else permutation(turn)
    if turn is None or perm is None or rank is None or not is_read_once(site.output):
        return site.rewriter.no(site, "it pools what is not turned for it")
    squeeze = match(next(iter(site.output.consumers()), None), "Squeeze")
    if squeeze is None or squeeze.constant_ints(1) != list(range(2, rank)) or perm[0] > perm[1]:
        return site.rewriter.no(site, "what it pools stays an axis, or is turned further")
    axes = site.rewriter.constant("axes", sorted(perm[2:]))
    made = site.op(_REDUCTIONS[site.key], "pooled", [turn.operand(0), axes], keepdims=0)
    site.rewriter.substitute(squeeze.output, made)
    site.rewriter.erase_unused([squeeze.node, site.node, turn.node])
    return True
