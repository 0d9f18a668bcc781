"""RNN, LSTM and GRU by ONNX's formula, a ``jax.lax.scan`` over time."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import rules
from dlbridge.source.recurrent import by_formula

rules("RNN", "GRU", "LSTM")(by_formula)
