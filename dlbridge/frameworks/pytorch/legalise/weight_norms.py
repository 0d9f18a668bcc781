"""Legalise layers that have a weight norm: their weight is made of a direction and of lengths when it is read.

``weight_norm(nn.Conv1d(3, 4, 3))`` reads ``g * v / |v|``, which is a ReduceL2, a Div and a Mul before the layer. A node
of the domain ``dlbridge.pytorch`` stands for both: its inputs are those of the layer, with v as the weight, and g
behind them. Its attributes are ``axis``, along which the lengths are (-1 for one length of all), and ``is_hooked`` for
PyTorch's older function, which calls the two ``weight_v`` and ``weight_g``.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import FORM
from dlbridge.ops import traits
from dlbridge.passes.matching import Match, is_read_once, producer
from dlbridge.passes.node_by_node import legalise
from dlbridge.passes.rewriter import Site

LAYERS = ("Conv", "ConvTranspose", "Linear")
#: The inputs of a layer: its weight, its bias, and the lengths that a legalised node has behind them.
WEIGHT, BIAS, LENGTHS = 1, 2, 3
#: Whether the older function gives the layer its norm -> what it calls the direction and the lengths.
PARTS = {
    False: ("parametrizations.weight.original1", "parametrizations.weight.original0"),
    True: ("weight_v", "weight_g"),
}


@dataclass
class _Weight:
    """A weight that is computed: its parts, the nodes that compute it, and the path of the module with the parts."""

    direction: ir.Value
    lengths: ir.Value
    axis: int
    nodes: list[ir.Node]
    path: str
    is_hooked: bool


def weight_norms(graph: ir.Graph) -> bool:
    """Let layers with a weight norm be layers, in place.

    Returns:
        Whether there was one.
    """
    return legalise(graph, "weight_norms", LAYERS, _legalise).changed


def _legalise(site: Site) -> bool:
    found = _computed(site)
    if found is None:
        return False
    path = _layer_path(site, found)
    if path is None:
        return site.rewriter.no(site, "its module computes more than the layer")
    bias = site.input(BIAS)
    if bias is not None and not (bias.is_initializer() and bias.name == f"{found.path}.bias"):
        return site.rewriter.no(site, "its bias is none of the layer's")
    site.set_form(FORM, axis=found.axis, is_hooked=int(found.is_hooked))
    site.set_inputs(site.input(0), found.direction, bias, found.lengths)
    site.node.name = path
    for mark in (traits.ANONYMOUS, traits.FREE_WEIGHTS):
        site.node.metadata_props.pop(mark, None)
    return True


def _computed(site: Site) -> _Weight | None:
    """How the weight of a layer is computed, if it has a weight norm."""
    product = producer(site.input(WEIGHT), "Mul")
    if product is None or not is_read_once(product.output):
        return None
    for direction, factor in product.orders():
        quotient = producer(factor, "Div")
        norm = None if quotient is None else producer(quotient.operand(1), "ReduceL2")
        if quotient is None or norm is None or norm.operand(0) is not direction:
            continue
        lengths, axis = quotient.operand(0), _axis(norm)
        if axis is None or not (traits.is_parameter(direction) and traits.is_parameter(lengths)):
            continue
        for is_hooked, (of_direction, of_lengths) in PARTS.items():
            path = (direction.name or "").removesuffix(of_direction)
            if path + of_direction == direction.name and path + of_lengths == lengths.name:
                path = path.rstrip(".")
                nodes = [site.node, product.node, quotient.node, norm.node]
                return _Weight(direction, lengths, axis, nodes, path, is_hooked)
    return None


def _axis(norm: Match) -> int | None:
    """The one axis that a norm leaves, -1 where it leaves none; None for another norm."""
    rank, axes = norm.rank(), norm.constant_ints(1)
    if rank is None:
        return None
    reduced = set(range(rank)) if axes is None else {axis % rank for axis in axes}
    left = sorted(set(range(rank)) - reduced)
    if len(left) > 1 or (left and norm.integer("keepdims") != 1):
        return None
    return left[0] if left else -1


def _layer_path(site: Site, weight: _Weight) -> str | None:
    """The path of the module that is the layer; None where its module does more."""
    if not traits.is_anonymous(site.node):
        return site.name
    path = traits.scope(site.node)
    inside = [node for node in site.graph if (node.name or "").startswith(f"{path}.")]
    return path if path and all(node in weight.nodes for node in inside) else None
