"""Folds a scale and a shift of each channel behind a convolution into its weights.

tf2onnx leaves them where it has folded a batch norm behind a convolution that has a bias. Only for exporters that fold
weights themselves: elsewhere the weights stay those of the original.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from dlbridge.passes.lift.pattern import WEIGHTS_FOLDED, Lifter, is_weight, rule, sizes, tensor_of
from dlbridge.passes.matching import Match, constant, rank, sole_producer


@rule("Mul")
def scaled(node: Match, to: Lifter) -> bool:
    """Conv, then times a constant of each channel: in the weight and the bias."""
    found = _with_channels(node)
    if found is None:
        return to.no(node, "it is not of a convolution and a constant of each channel, whose weights may be changed")
    conv, factors = found
    inputs = [conv.operand(0)]
    for slot, what in ((1, "weight"), (2, "bias")):
        held = conv.input(slot)
        if held is not None:
            change = functools.partial(_scale, factors)
            inputs.append(to.weight(held, f"{conv.name}.{what}", change, shape=sizes(held)))
    return _put_in_place(node, conv, inputs, to)


@rule("Add", "Sub")
def shifted(node: Match, to: Lifter) -> bool:
    """Conv, then plus (or minus) a constant of each channel: in the bias."""
    found = _with_channels(node)
    if found is None:
        return to.no(node, "it is not of a convolution and a constant of each channel, whose weights may be changed")
    conv, shift = found
    if node.is_op("Sub"):
        shift = -shift
    bias = conv.input(2)
    if bias is None:
        made = to.constant(f"{conv.name}.shift", shift, tensor_of(conv.operand(1)).dtype)
        bias = to.weight(made, f"{conv.name}.bias")
    else:
        bias = to.weight(bias, f"{conv.name}.bias", functools.partial(np.add, shift), shape=sizes(bias))
    return _put_in_place(node, conv, [conv.operand(0), conv.operand(1), bias], to)


def _with_channels(node: Match) -> tuple[Match, np.ndarray] | None:
    """(the convolution that only this node reads, the constant of each of its channels).

    They are the node's operands; of a difference, in this order.
    """
    if not node.graph.meta.get(WEIGHTS_FOLDED):
        return None
    for this, other in node.orders():
        conv, numbers, size = sole_producer(this, "Conv"), constant(other), rank(this)
        if conv is None or numbers is None or size is None:
            continue
        held = conv.operands[1:]
        if not all(is_weight(v) and len(v.uses()) == 1 for v in held):
            continue
        by_channel = [sizes(held[0])[0], *[1] * (size - 2)]
        if list(numbers.shape.numpy()) in (by_channel, [1, *by_channel]):
            return conv, numbers.numpy().reshape(-1)
    return None


def _scale(factors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight * factors.reshape(-1, *[1] * (weight.ndim - 1))


def _put_in_place(node: Match, conv: Match, inputs: list[ir.Value], to: Lifter) -> bool:
    return to.become(node, "Conv", inputs, conv.attributes(), path=conv.name, absorbs=[conv])
