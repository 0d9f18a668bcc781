"""Writes ops that were merging layers in Keras (``Add``, ``Concatenate``) as these layers, with their names."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.source.blocks import is_weight
from dlbridge.source.code import call
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer

_LAYERS = {
    "Add": "Add",
    "Mul": "Multiply",
    "Sub": "Subtract",
    "Max": "Maximum",
    "Min": "Minimum",
    "Concat": "Concatenate",
}


def merging_layers(graph: ir.Graph) -> Iterator[tuple[ir.Node, Emit]]:
    """The nodes that were merging layers in Keras, with the code that calls the layer."""
    for node in graph:
        name = _LAYERS.get(op_key(node))
        if name is None or node.metadata_props.get(traits.CLASS) != f"keras.layers.{name}":
            continue
        values = list(node.inputs)
        if len(values) < 2 or traits.is_anonymous(node) or any(v is None or is_weight(v) for v in values):
            continue
        shapes = [list(v.shape) if v is not None and v.shape is not None else None for v in values]
        if None in shapes or len({len(s) for s in shapes}) > 1:  # type: ignore[arg-type]
            continue
        if name == "Add" and any(s != shapes[0] for s in shapes):
            continue  # Keras' own add is wrong for some broadcasts
        axis = node.attributes["axis"].as_int() if name == "Concatenate" else -1
        last = axis in (-1, len(shapes[0]) - 1)  # type: ignore[arg-type]
        new = call(f"layers.{name}", **({} if last else {"axis": axis}))
        yield node, Emit(call(LAYER, values), Layer(new))
