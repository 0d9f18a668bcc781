"""Activations: ``F.relu(x)`` where it is called, ``nn.ReLU()`` in a list of layers."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.code import call
from dlbridge.source.op import Emit, Layer, Op


@rules("Relu")
def relu(op: Op) -> Emit:
    return Emit(call("F.relu", op.x), module=Layer(call("nn.ReLU")))


@rules("Softmax")
def softmax(op: Op) -> Emit:
    dim = op.attr("axis")
    return Emit(call("F.softmax", op.x, dim=dim), module=Layer(call("nn.Softmax", dim=dim)))
