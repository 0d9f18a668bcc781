"""Upgrade: a graph of any opset becomes one of ``IR_OPSET`` in inference form.

onnx's own version converter refuses or miscasts many graphs (subgraphs, several Softmax and Resize forms, opsets past
its last adapter), so each change of meaning has a rule here: what the op's changelog says, a few lines each. An op
without a rule means today what it always meant. A rule changes one node from before ``below`` to ``below``; a node goes
through all rules of its op in ascending order.
"""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.upgrade import attributes, early, inference_form, meanings  # noqa: F401  (they register their rules)
from dlbridge.passes.upgrade.registry import RULES, CannotUpgradeError

OLDEST_OPSET = 1


def upgrade(model: ir.Model) -> bool:
    """Bring a model, its subgraphs and its functions to ``IR_OPSET`` and to inference form, in place.

    A batch normalization or dropout that was exported in training mode becomes what it is at inference.

    Returns:
        Whether a rule applied.

    Raises:
        UnsupportedOpError: When the opset is beyond ``IR_OPSET``, or nodes mean what the ops of today cannot
            say; all such nodes are listed.
    """
    # lenient: where the old graph has an error, inference at IR_OPSET will name it
    shapes.infer_lenient(model)
    troubles: list[str] = []
    changed = False
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        opset = graph.opset_imports.get("", graph.opset_imports.get("ai.onnx"))
        if opset is None:
            opset = traits.IR_OPSET  # no standard op in it
        if not OLDEST_OPSET <= opset <= traits.IR_OPSET:
            raise UnsupportedOpError(
                f"the model is of opset {opset}",
                where=graph.name,
                hint=f"opsets {OLDEST_OPSET} to {traits.IR_OPSET} can be read; export it again at one of these",
            )
        rewriter = Rewriter(graph)
        for node in list(graph.all_nodes()):
            if node.domain == "":
                _upgrade_node(Site(node, rewriter), opset, troubles)
        changed |= rewriter.changed or opset != traits.IR_OPSET
        graph.opset_imports.pop("ai.onnx", None)
        graph.opset_imports[""] = traits.IR_OPSET
    if troubles:
        raise UnsupportedOpError(
            "these nodes cannot be said in the ops of today:\n" + "\n".join(f"  {t}" for t in troubles),
            hint="rules are in dlbridge/passes/upgrade/",
        )
    return changed


def _upgrade_node(site: Site, opset: int, troubles: list[str]) -> None:
    """Apply the rules of a node's op, which may be another one after each."""
    reached = opset
    try:
        while pending := [(below, rule) for below, rule in RULES.get(op_key(site.node), ()) if below > reached]:
            reached, rule = pending[0]
            rule(site)
    except CannotUpgradeError as error:
        troubles.append(f"{site.node.name} ({site.node.op_type}): {error}")
