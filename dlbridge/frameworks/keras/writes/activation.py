"""Activations: a layer where layers are joined, a function of ``ops`` inside a layer."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import call
from dlbridge.source.op import Emit, Layer, Op


@rules("Relu")
def relu(op: Op) -> Emit:
    return Emit(call("ops.relu", op.x), module=Layer(call("layers.ReLU")))


@rules("Softmax")
def softmax(op: Op) -> Emit:
    axis = op.attr("axis")
    return Emit(call("ops.softmax", op.x, axis=axis), module=Layer(call("layers.Softmax", axis=axis)))
