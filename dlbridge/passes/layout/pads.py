"""Pads of convolutions as nodes of their own, where a framework's layer has no word for them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.names import unique
from dlbridge.ops.padding import same_padding


def split_pads(graph: ir.Graph, domain: str) -> None:
    """Put a Pad before each channels-last Conv whose pads are neither none nor 'same', in place.

    'Same' pads are those of TensorFlow: as many as give ``ceil(size / stride)`` outputs, the odd one at the end.

    Args:
        graph: Its shapes are inferred.
        domain: The domain of the channels-last nodes.
    """
    names = {node.name or "" for node in graph}
    for node in list(graph):
        pads = list(node.attributes["pads"].as_ints()) if "pads" in node.attributes else []
        if node.op_type != "Conv" or node.domain != domain or not any(pads) or _is_same(node, pads):
            continue
        x, half = node.inputs[0], len(pads) // 2
        assert x is not None and x.shape is not None
        amounts = np.array([0, *pads[:half], 0, 0, *pads[half:], 0], np.int64)
        constant = ir.Value(name=f"{node.name}_pads", const_value=ir.tensor(amounts, name=f"{node.name}_pads"))
        constant.dtype, constant.shape = ir.DataType.INT64, ir.Shape([len(amounts)])
        graph.register_initializer(constant)
        name = unique(f"{traits.scope(node)}.pad".lstrip("."), names)
        pad = ir.node("Pad", [x, constant], name=name, metadata_props={traits.ANONYMOUS: "true"})
        out = pad.outputs[0]
        out.name, out.dtype, out.shape = f"{node.name}_padded", x.dtype, _grown(x.shape, pads)
        graph.insert_before(node, pad)
        node.replace_input_with(0, out)
        del node.attributes["pads"]


def _grown(shape: ir.Shape, pads: list[int]) -> ir.Shape:
    half = len(pads) // 2
    more = [0, *(pads[i] + pads[half + i] for i in range(half)), 0]
    return ir.Shape([d + m if isinstance(d, int) else ir.SymbolicDim(None) for d, m in zip(shape, more, strict=True)])


def _is_same(node: ir.Node, pads: list[int]) -> bool:
    half = len(pads) // 2
    weight, x = node.inputs[1], node.inputs[0]
    kernel = list(weight.shape[2:]) if weight is not None and weight.shape is not None else [None] * half
    strides, dilations = (
        list(node.attributes[name].as_ints()) if name in node.attributes else [1] * half
        for name in ("strides", "dilations")
    )
    for axis in range(half):
        size = kernel[axis]
        if not isinstance(size, int):
            return False
        total = same_padding(x.shape[1 + axis], size, strides[axis], dilations[axis])  # type: ignore[union-attr, index]
        if total is None or (pads[axis], pads[half + axis]) != (total // 2, total - total // 2):
            return False
    return True
