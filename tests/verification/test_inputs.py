"""The random inputs that routes are compared on: arrays that a model can take."""

import numpy as np

from dlbridge import description
from dlbridge.verification.inputs import random_inputs

TEXT = """
dlbridge: 1
name: m
inputs: {x: {dtype: float32, shape: [steps, batch, 3]}, length: {dtype: int32, shape: [batch]}}
nodes:
  - {name: lstm, op: LSTM, from: x, hidden_size: 2, sequence_lens: length}
outputs: [lstm]
"""


def test_lengths_of_sequences_are_lengths():
    arrays = random_inputs(description.load(TEXT), {"steps": 3, "batch": 200})
    assert arrays["x"].shape == (3, 200, 3)
    assert set(np.unique(arrays["length"])) == {1, 2, 3}
