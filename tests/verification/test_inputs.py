"""The random inputs that routes are compared on: arrays that a model can take."""

import numpy as np
import pytest

from dlbridge import description
from dlbridge.verification.inputs import random_inputs
from dlbridge.verification.roles import roles
from dlbridge.verification.strategies import STRATEGIES

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


FLOATS_AS_INDICES = """
dlbridge: 1
name: m
inputs: {x: {dtype: float32, shape: [batch, 4]}}
nodes:
  - {op: Cast, to: int32}
  - {name: found, op: Embedding, count: %d, size: 1}
outputs: [found]
"""


@pytest.mark.parametrize("rows", [1, 7, 1_000_000])
def test_floats_that_become_indices_stay_within_the_table(rows):
    """As of ``keras.Input((20,))``, whose dtype is float32, before an ``Embedding``: whatever the strategy is."""
    (role,) = roles(description.load(FLOATS_AS_INDICES % rows), {})
    for strategy in STRATEGIES:
        found = strategy.numbers(role, (50, 4), np.random.default_rng(0))
        indices = np.zeros(1) if found is None else found.astype(np.float32).astype(np.int32)
        assert 0 <= indices.min() <= indices.max() < rows, strategy.name
