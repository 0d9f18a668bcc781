"""Batch norm in float32: the variance of a batch keeps its digits where the mean is far from 0."""

import numpy as np
import pytest

import dlbridge
from dlbridge import description
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import largest_difference

MODEL = """
dlbridge: 1
name: normed
inputs: {x: {dtype: float32, shape: [batch, 3, 4, 4]}}
nodes:
  - {name: bn, op: BatchNormalization}
  - {op: Flatten}
  - {op: Linear, features: 3}
outputs: {y: fc1}
"""


@pytest.mark.nnx
def test_a_mean_far_from_zero_costs_no_digits():
    rng = np.random.default_rng(0)
    rows = {"x": (rng.normal(size=(32, 3, 4, 4)) + 300).astype(np.float32), "label": rng.integers(0, 3, 32)}
    spec = TrainingSpec(loss={"op": "SoftmaxCrossEntropyLoss"}, optimizer={"kind": "sgd"}, batch_size=8)
    model = description.load(MODEL)
    first, other = (dlbridge.train(model, rows, framework=name, spec=spec).model for name in ("pytorch", "nnx"))
    assert largest_difference(first.weights, other.weights) <= 1e-4
