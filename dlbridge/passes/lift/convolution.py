"""What follows a convolution and knows its channels alone is in it: tf2onnx makes a batch norm such, which it leaves
behind a convolution that has a bias. Only where the exporter folds weights: elsewhere they stay those of the original.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.lift.pattern import (
    WEIGHTS_FOLDED,
    Lifter,
    array,
    inner,
    input_at,
    is_constant,
    is_weight,
    rank,
    rule,
    sizes,
)


@rule("Mul")
def scaled(node: ir.Node, to: Lifter) -> bool:
    """Conv, then times a constant of each channel: in the weight and the bias."""
    found = _with_channels(node, (0, 1), (1, 0))
    if found is None:
        return False
    conv, factors = found
    weight, bias = conv.inputs[1], input_at(conv, 2)
    new = to.weight(weight, f"{conv.name}.weight", functools.partial(_scale, factors), shape=sizes(weight))
    inputs = [conv.inputs[0], new]
    if bias is not None:
        inputs.append(to.weight(bias, f"{conv.name}.bias", functools.partial(_scale, factors), shape=sizes(bias)))
    return _replace(node, conv, inputs, to)


@rule("Add", "Sub")
def shifted(node: ir.Node, to: Lifter) -> bool:
    """Conv, then plus (or minus) a constant of each channel: in the bias."""
    found = _with_channels(node, (0, 1), *([(1, 0)] if is_op(node, "Add") else []))
    if found is None:
        return False
    conv, shift = found
    weight, bias = conv.inputs[1], input_at(conv, 2)
    shift = shift if is_op(node, "Add") else -shift
    if bias is None:
        name = to.constant(f"{conv.name}.shift", shift)
        bias = to.weight(name, f"{conv.name}.bias")
    else:
        bias = to.weight(bias, f"{conv.name}.bias", functools.partial(np.add, shift), shape=sizes(bias))
    return _replace(node, conv, [conv.inputs[0], weight, bias], to)


def _with_channels(node: ir.Node, *orders: tuple[int, int]) -> tuple[ir.Node, np.ndarray] | None:
    """(the convolution that only this node reads, the constant of each of its channels), whichever way round."""
    if node.graph is None or not node.graph.meta.get(WEIGHTS_FOLDED):
        return None
    for this, other in orders:
        conv, numbers = inner(node.inputs[this], "Conv"), array(node.inputs[other])
        if conv is None or conv.domain != "" or numbers is None or not is_constant(node.inputs[other]):
            continue
        held = [v for v in conv.inputs[1:] if v is not None]
        channels, size = sizes(held[0])[0] if is_weight(held[0]) else 0, rank(node.inputs[this])
        alone = all(is_weight(v) and len(v.uses()) == 1 for v in held)
        by_channel = (channels, *[1] * ((size or 2) - 2))
        if alone and size is not None and numbers.shape in (by_channel, (1, *by_channel)):
            return conv, numbers.reshape(-1)
    return None


def _scale(factors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight * factors.reshape(-1, *[1] * (weight.ndim - 1))


def _replace(node: ir.Node, conv: ir.Node, inputs: list[ir.Value], to: Lifter) -> bool:
    attributes = {name: attribute.value for name, attribute in conv.attributes.items()}
    return to.replace(node, "Conv", inputs, attributes, path=conv.name, absorbs=[conv])
