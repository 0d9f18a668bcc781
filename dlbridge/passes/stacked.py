"""Legalise a Concat of tensors that each got an axis for it: they are stacked along a new axis.

ONNX says ``stack`` as one Unsqueeze each and a Concat. A node ``Stack`` of the domain ``dlbridge.arrays`` has the
tensors themselves as inputs, and the new axis as its attribute.
"""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.matching import Match, producer
from dlbridge.passes.node_by_node import rewrite
from dlbridge.passes.rewriter import Site
from dlbridge.passes.standard import graph_pass

#: The domain of ops that libraries of arrays have and ONNX has not.
DOMAIN = "dlbridge.arrays"


def stack_slices(graph: ir.Graph) -> bool:
    """Let tensors that are joined along a new axis be stacked, in place.

    Returns:
        Whether there were some.
    """
    return rewrite(graph, _stack, "Concat")


def _stack(site: Site) -> None:
    rank = site.rank()
    if rank is None or len(site.node.inputs) < 2:
        return
    if rank == 1 and not site.dtype().is_floating_point():  # sizes, which are numbers of Python
        return
    axis = site.integer("axis") % rank
    slices = [_slice(site, value, axis, rank) for value in site.node.inputs]
    found = [each for each in slices if each is not None]
    if len(found) < len(slices):
        return
    site.rewriter.replace(site.node, "Stack", [each.operand(0) for each in found], {"axis": axis}, domain=DOMAIN)
    site.rewriter.erase_unused(list(dict.fromkeys(each.node for each in found)))


def _slice(site: Site, value: ir.Value | None, axis: int, rank: int) -> Match | None:
    """The Unsqueeze that gives a tensor the new axis for the Concat alone."""
    made = producer(value, "Unsqueeze")
    axes = None if made is None else made.constant_ints(1)
    if made is None or axes is None or [each % rank for each in axes] != [axis]:
        return None
    is_read_by_others = any(reader is not site.node for reader in made.output.consumers())
    return None if is_read_by_others or made.output.is_graph_output() else made


STACK_SLICES = graph_pass(stack_slices, "Let tensors that are joined along a new axis be stacked.")
