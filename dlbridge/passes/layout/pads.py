"""Pads of convolutions as nodes of their own, where a framework's layer has no word for them, and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, layer_key
from dlbridge.ops.names import unique
from dlbridge.ops.padding import same_padding
from dlbridge.passes.layout.axes import permuted
from dlbridge.passes.layout.transposes import is_transpose, permutation


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
        if layer_key(node) != "Conv" or node.domain != domain or not any(pads) or _is_same(node, pads):
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


def join_pads(graph: ir.Graph) -> None:
    """Let a Conv pad for itself where zeros are put around what it alone reads, in place. A Transpose may be between.

    Only where the Conv then pads alike at both ends.

    Args:
        graph: Its shapes are inferred.
    """
    for node in list(graph):
        if not is_op(node, "Conv") or "auto_pad" in node.attributes:
            continue
        pad = _alone(node)
        turned = pad if pad is not None and is_transpose(pad) else None
        pad = _alone(turned) if turned is not None else pad
        zeros = _zeros(pad) if pad is not None and is_op(pad, "Pad") else None
        if pad is None or zeros is None or pad.inputs[0] is None:
            continue
        perm = permutation(turned) if turned is not None else list(range(len(zeros)))
        half = len(perm) - 2
        own = list(node.attributes["pads"].as_ints()) if "pads" in node.attributes else [0] * 2 * half
        around = [zeros[axis] for axis in perm]
        ends = [(own[i] + a, own[half + i] + b) for i, (a, b) in enumerate(around[2:])]
        if any(around[0] + around[1]) or any(a != b for a, b in ends):
            continue
        node.attributes["pads"] = ir.AttrInt64s("pads", [a for a, _ in ends] + [b for _, b in ends])
        x = pad.inputs[0]
        (turned or node).replace_input_with(0, x)
        if turned is not None:
            turned.outputs[0].shape = permuted(x.shape, perm)
        graph.remove(pad, safe=True)


def _alone(node: ir.Node) -> ir.Node | None:
    """The node that makes a node's first input, where nothing else reads it."""
    x = node.inputs[0]
    return x.producer() if x is not None and len(x.uses()) == 1 and not x.is_graph_output() else None


def _zeros(pad: ir.Node) -> list[tuple[int, int]] | None:
    """(how many zeros before, how many after) of each axis; None where it is another padding, cuts, or is not known."""
    x, amounts, value, axes = [*pad.inputs, None, None][:4]
    mode = pad.attributes["mode"].as_string() if "mode" in pad.attributes else "constant"
    given = [v for v in (amounts, value, axes) if v is not None]
    if mode != "constant" or x is None or x.shape is None or any(v.const_value is None for v in given):
        return None
    assert amounts is not None
    numbers = amounts.const_value.numpy()  # type: ignore[union-attr]
    if (numbers < 0).any() or (value is not None and value.const_value.numpy().any()):  # type: ignore[union-attr]
        return None
    rank = len(x.shape)
    places = range(rank) if axes is None else [int(a) % rank for a in axes.const_value.numpy()]  # type: ignore[union-attr]
    found = [(0, 0)] * rank
    for place, axis in enumerate(places):
        found[axis] = int(numbers[place]), int(numbers[len(places) + place])
    return found


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
