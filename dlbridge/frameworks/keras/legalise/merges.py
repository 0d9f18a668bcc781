"""Ops that were merging layers in Keras (``Add``, ``Concatenate``) become these layers again, with their names."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FORM
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes.node_by_node import rewrite
from dlbridge.passes.rewriter import Site
from dlbridge.source.blocks import is_weight

#: Op -> the layer.
LAYERS = {"Add": "Add", "Sub": "Subtract", "Mul": "Multiply", "Max": "Maximum", "Min": "Minimum"}
LAYERS["Concat"] = "Concatenate"


def merging_layers(graph: ir.Graph) -> bool:
    """Legalise the nodes that were merging layers in Keras, in place.

    Returns:
        Whether there was one.
    """
    return rewrite(graph, _legalise, *LAYERS)


def _legalise(site: Site) -> None:
    if _is_layer(site.node):
        site.set_form(FORM)


def _is_layer(node: ir.Node) -> bool:
    name = LAYERS[op_key(node)]
    if node.metadata_props.get(traits.CLASS) != f"keras.layers.{name}" or traits.is_anonymous(node):
        return False
    if node.outputs[0].dtype == ir.DataType.UINT64:  # which Keras computes as uint32
        return False
    values = [value for value in node.inputs if value is not None and not is_weight(value)]
    if len(values) < 2 or len(values) < len(node.inputs):
        return False
    shapes = [list(value.shape) for value in values if value.shape is not None]
    if len(shapes) < len(values) or len({len(shape) for shape in shapes}) > 1:
        return False
    is_alike = all(shape == shapes[0] for shape in shapes)
    return is_alike or name != "Add"  # Keras' own add is wrong for some broadcasts
