"""RNN, LSTM and GRU by ONNX's formula, a ``jax.lax.scan`` over time."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import rules
from dlbridge.source.arrays import as_many_as_read
from dlbridge.source.op import Emit, Op
from dlbridge.source.recurrent import activations, by_formula, directions

_COUNTS = {"RNN": 1, "GRU": 2, "LSTM": 3}


@rules("RNN", "GRU", "LSTM")
def recurrent(op: Op) -> Emit:
    named = activations(op, _COUNTS[op.key] * directions(op))
    return as_many_as_read(op, by_formula(op, op.x, named), 3 if op.key == "LSTM" else 2)
