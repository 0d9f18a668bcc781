"""Models from ONNX's text form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits


def model(text: str, **weights: np.ndarray) -> Model:
    """A model of a graph in ONNX's text form; float weights are trained."""
    graph = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 11, opset_import: ["": {traits.IR_OPSET}]> {text}'))
    for name, array in weights.items():
        tensor = ir.tensor(np.asarray(array), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        old = next(v for node in graph.graph.all_nodes() for v in node.inputs if v is not None and v.name == name)
        graph.graph.register_initializer(value)
        ir.convenience.replace_all_uses_with(old, value)
        if tensor.dtype.is_floating_point():
            traits.set_kind(value, "parameter")
    for i, node in enumerate(graph.graph.all_nodes()):
        node.name = node.name or f"node{i}"
    return Model(graph)


def save_graph(path, signature: str, body: str):
    """Save a model of opset 18, as a deployed one may be."""
    text = f'<ir_version: 8, opset_import: ["": 18]> graph {signature} {{ {body} }}'
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.parser.parse_model(text), path)
    return path
