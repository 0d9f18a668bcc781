"""A small model and a training of it, for the tests of training."""

from __future__ import annotations

import numpy as np

from dlbridge import description
from dlbridge.training.spec import TrainingSpec

FRAMEWORKS = ("pytorch", "keras")


DENSE = """
dlbridge: 1
name: dense
inputs: {x: {dtype: float32, shape: [batch, 5]}}
nodes:
  - {op: Linear, features: 8}
  - {op: Tanh}
  - {op: Linear, features: 3}
  - ENDING
outputs: {y: OUTPUT}
"""


def dense(ending="{op: Identity}", output="identity1", features=3):
    text = DENSE.replace("ENDING", ending).replace("OUTPUT", output).replace("features: 3", f"features: {features}")
    return description.load(text)


def largest_difference(a, b):
    return max(np.abs(a[k] - w).max() / max(np.abs(w).max(), 1e-12) for k, w in b.items() if w.dtype.kind == "f")


SPEC = TrainingSpec(
    loss={"op": "SoftmaxCrossEntropyLoss"},
    optimizer={"kind": "adam", "learning_rate": 0.01},
    metrics=("accuracy",),
    epochs=6,
    batch_size=16,
    validation_split=0.2,
)
