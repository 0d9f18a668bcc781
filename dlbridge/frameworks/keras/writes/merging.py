"""Merging layers: ``layers.Add()([a, b])``."""

from __future__ import annotations

from dlbridge.frameworks.keras.legalise.merges import LAYERS
from dlbridge.frameworks.keras.rules import FORM, rules
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import call


@rules(*LAYERS, domain=FORM)
def merge(op: Op) -> Emit:
    axis = op.axis() if op.key == "Concat" else op.rank() - 1
    last = axis == op.rank() - 1
    new = call(f"layers.{LAYERS[op.key]}", axis=None if last else axis)
    return Emit(call(LAYER, op.tensors), Layer(new))
