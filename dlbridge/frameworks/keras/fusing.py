"""Nodes that a Keras layer does along: an activation behind its own, and the loss of the axes that it pools over."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FLAT, SHARED, TAKES_ACTIVATION, fused_activation
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, layer_key
from dlbridge.passes.matching import constant
from dlbridge.source.op import weight_of


def fuse(graph: ir.Graph) -> None:
    """Let layers do what comes right after them, where nothing else reads what is between; in place."""
    for node in list(graph):
        follower = _only_reader(node) if not node.meta.get(SHARED) else None
        if follower is None:
            continue
        activation = fused_activation(follower)
        weights = (weight_of(v) for v in node.inputs[1:] if v is not None)
        if layer_key(node) in TAKES_ACTIVATION and activation is not None and all(weights):
            node.meta["activation"] = activation
            _take_in(node, follower)
        elif layer_key(node) in ("GlobalAveragePool", "GlobalMaxPool") and _drops_pooled(follower):
            node.meta[FLAT] = True
            if traits.is_anonymous(node) and not traits.is_anonymous(follower):
                node.name = follower.name
                del node.metadata_props[traits.ANONYMOUS]
            _take_in(node, follower)


def _only_reader(node: ir.Node) -> ir.Node | None:
    out = node.outputs[0]
    uses = list(out.uses())
    return uses[0].node if len(uses) == 1 and uses[0].idx == 0 and not out.is_graph_output() else None


def _drops_pooled(node: ir.Node) -> bool:
    """Whether a node makes ``(batch, channels)`` of ``(batch, 1, 1, channels)``."""
    shape, made = node.inputs[0].shape, node.outputs[0].shape  # type: ignore[union-attr]
    if shape is None or made is None or len(made) != 2:
        return False
    if is_op(node, "Squeeze"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        return axes is not None and sorted(a % len(shape) for a in axes.numpy()) == list(range(1, len(shape) - 1))
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    return is_op(node, "Flatten") and axis == 1


def _take_in(node: ir.Node, follower: ir.Node) -> None:
    out, result = node.outputs[0], follower.outputs[0]
    wanted, out.shape = result.name, result.shape
    ir.convenience.replace_all_uses_with(result, out, replace_graph_outputs=True)
    assert follower.graph is not None
    follower.graph.remove(follower, safe=True)
    out.name = wanted
