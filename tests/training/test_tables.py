"""A table that is looked up trains as any other weight: rows that a batch does not read are decayed too."""

import numpy as np
import pytest

import dlbridge
from dlbridge.training.spec import TrainingSpec
from tests.helpers.paths import ROOT
from tests.helpers.training import largest_difference

RNG = np.random.default_rng(0)
ROWS = {"tokens": RNG.integers(0, 1000, (24, 6)), "label": RNG.integers(0, 4, 24)}


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"clip": {"norm": 0.1}}])
def test_the_frameworks_agree(more):
    model = dlbridge.load(ROOT / "examples" / "transformer_encoder.yaml")
    optimizer = {"kind": "adamw", "weight_decay": 0.1, "epsilon": 1e-3}
    spec = TrainingSpec(loss={"op": "SoftmaxCrossEntropyLoss"}, optimizer=optimizer, batch_size=8, epochs=2, **more)
    found = [dlbridge.train(model, ROWS, framework=name, spec=spec).model.weights for name in ("pytorch", "keras")]
    # a softmax does not see the bias of the keys: it has no gradient but rounding
    weights = [{n: w for n, w in found_.items() if not n.endswith("key.bias")} for found_ in found]
    assert largest_difference(*weights) <= 1e-4
