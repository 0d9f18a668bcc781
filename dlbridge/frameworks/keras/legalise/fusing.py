"""Nodes fused into the Keras layer before them: an activation, and the loss of the axes that a layer pools over."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import ACTIVATION_NAMES, FORM, TAKES_ACTIVATION
from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.passes.matching import match
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.source.op import weight_of

#: Activations that a layer can apply itself: ``layers.Dense(128, activation="relu")``.
_ACTIVATIONS = ACTIVATION_NAMES | {"Relu": "relu", "Elu": "elu", "Gelu": "gelu", "Softmax": "softmax"}


def fuse(graph: ir.Graph) -> bool:
    """Let layers do what comes right after them, where nothing else reads what is between; in place.

    Returns:
        Whether there was anything.
    """
    rewriter = Rewriter(graph)
    behind = _activations(graph)
    for site in rewriter.sites():
        node = site.node
        follower = _only_reader(node) if node.domain != FORM else None
        if follower is None:
            continue
        if node in behind:
            _take_in(site, follower, activation=behind[node])
        elif layer_key(node) in ("GlobalAveragePool", "GlobalMaxPool") and _drops_pooled(follower):
            name = follower.name if traits.is_anonymous(node) and not traits.is_anonymous(follower) else None
            _take_in(site, follower, keepdims=0)
            if name is not None:
                node.name = name
                del node.metadata_props[traits.ANONYMOUS]
    return rewriter.changed


def _activations(graph: ir.Graph) -> dict[ir.Node, str]:
    """The activations that layers are to do themselves. A layer that is called more than once does the one that is
    behind all of its calls: with it in some alone, they would be layers of their own, and train apart."""
    found: dict[ir.Node, str | None] = {}
    calls: dict[str, list[ir.Node]] = {}
    for node in graph:
        weights = [weight_of(value) for value in node.inputs[1:] if value is not None]
        if node.domain == FORM or layer_key(node) not in TAKES_ACTIVATION or not all(weights):
            continue
        follower = _only_reader(node)
        found[node] = None if follower is None else _activation(follower)
        for weight in weights[:1]:
            calls.setdefault(repr(weight), []).append(node)
    agreed = {node for nodes in calls.values() if len({found[n] for n in nodes}) == 1 for node in nodes}
    return {node: name for node, name in found.items() if name is not None and node in agreed}


def _only_reader(node: ir.Node) -> ir.Node | None:
    out = node.outputs[0]
    uses = list(out.uses())
    return uses[0].node if len(uses) == 1 and uses[0].idx == 0 and not out.is_graph_output() else None


def _activation(node: ir.Node) -> str | None:
    """The name under which a layer can apply this activation node itself, or None."""
    found = match(node, *_ACTIVATIONS)
    if found is None:
        return None
    name = _ACTIVATIONS[found.key]
    match found.key:
        case "Softmax":
            rank = found.rank()
            last = rank is not None and found.integer("axis") in (-1, rank - 1)
            return name if last else None
        case "Gelu":
            double = found.output.dtype == ir.DataType.DOUBLE  # Keras' own has its numbers in float32
            return name if found.text("approximate") == "none" and not double else None
        case "Elu" | "Swish":
            return name if found.number("alpha") == 1.0 else None
        case "Selu":
            return name if not node.attributes else None
    return name


def _drops_pooled(node: ir.Node) -> bool:
    """Whether a node makes ``(batch, channels)`` of ``(batch, 1, 1, channels)``."""
    shape, made = node.inputs[0].shape, node.outputs[0].shape  # type: ignore[union-attr]
    if shape is None or made is None or len(made) != 2:
        return False
    squeeze = match(node, "Squeeze")
    if squeeze is not None:
        axes = squeeze.constant_ints(1)
        return axes is not None and sorted(a % len(shape) for a in axes) == list(range(1, len(shape) - 1))
    return match(node, "Flatten", axis=1) is not None


def _take_in(site: Site, follower: ir.Node, **attributes: Any) -> None:
    """Let a layer give what the node behind it makes."""
    site.set_form(FORM, **attributes)
    site.rewriter.substitute(follower.outputs[0], site.output)
    site.rewriter.erase(follower)
