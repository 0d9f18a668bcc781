"""Weights, and rows of weights, that no step touches, in any framework: paddings, and what no loss depends on."""

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import TrainingError
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import largest_difference

FRAMEWORKS = ("pytorch", "keras", "nnx")
RNG = np.random.default_rng(0)
DATA = {"ids": RNG.integers(0, 7, (8, 5)), "label": RNG.normal(size=(8, 3))}
MEAN_SQUARE = {"op": "MeanSquaredError"}


class Padded(nn.Module):
    """A table whose row 0 is that of the padding; where it is tied, the head reads this row, too."""

    def __init__(self, tied):
        super().__init__()
        self.tied = tied
        self.table, self.head = nn.Embedding(7, 4, padding_idx=0), nn.Linear(7 if tied else 4, 3)

    def forward(self, ids):
        x = self.table(ids).mean(1)
        return self.head(x @ self.table.weight.T if self.tied else x)


class Unread(nn.Module):
    """A layer that is never called, and a second output."""

    def __init__(self):
        super().__init__()
        self.first, self.never = nn.Linear(4, 3), nn.Linear(4, 3)
        self.second = nn.Linear(4, 2)

    def forward(self, x):
        return {"y": self.first(x), "z": self.second(x)}


def trained(model, data, **spec):
    """Framework -> what a training there comes to."""
    spec = TrainingSpec(batch_size=4, **spec)
    return {name: dlbridge.train(model, data, framework=name, spec=spec) for name in FRAMEWORKS}


@pytest.mark.nnx
@pytest.mark.parametrize("tied", [False, True])
def test_the_row_of_the_padding_gets_no_gradient_of_its_look_ups(tied):
    torch.manual_seed(0)
    model = dlbridge.load(Padded(tied).double(), inputs={"ids": "int64[batch,5]"})
    found = trained(model, DATA, loss=MEAN_SQUARE, optimizer={"kind": "adam", "learning_rate": 0.1}, epochs=2)
    if not tied:
        moved = np.abs(found["pytorch"].model.weights["table.weight"] - model.weights["table.weight"]).max(1)
        assert moved[0] == 0 < moved[1]
    for name in FRAMEWORKS[1:]:
        assert largest_difference(found[name].model.weights, found["pytorch"].model.weights) < 1e-9, name
        # integers come in: in float64 all the same
        np.testing.assert_allclose(found[name].history["loss"], found["pytorch"].history["loss"], rtol=1e-12)


@pytest.mark.nnx
@pytest.mark.parametrize(
    "more", [{"optimizer": {"kind": "adamw", "weight_decay": 0.1}}, {"l1": 0.1, "l2": 0.1}], ids=str
)
def test_weights_on_which_no_loss_depends_stay_as_they_are(more):
    torch.manual_seed(0)
    model = dlbridge.load(Unread().double(), inputs={"x": "float64[batch,4]"})
    data = {"x": RNG.normal(size=(8, 4)), "label": DATA["label"]}
    found = trained(model, data, loss={**MEAN_SQUARE, "of": "y"}, ema=0.9, **more)
    for name, result in found.items():
        for weight in ("never.weight", "second.weight"):
            np.testing.assert_array_equal(result.model.weights[weight], model.weights[weight], err_msg=name)
        np.testing.assert_allclose(result.history["loss"], found["pytorch"].history["loss"], rtol=1e-12)


def test_a_penalty_of_two_biases_that_keras_holds_as_their_sum_is_refused():
    class Elman(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(4, 3, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    data = {"x": RNG.normal(size=(8, 5, 4)).astype("f4"), "label": DATA["label"]}
    model = dlbridge.load(Elman(), inputs={"x": "float32[batch,5,4]"})
    with pytest.raises(TrainingError, match="one bias stands for two") as refusal:
        dlbridge.train(model, data, framework="keras", spec=TrainingSpec(loss=MEAN_SQUARE, l2=0.1))
    assert "no_decay" in str(refusal.value)
    spec = TrainingSpec(loss=MEAN_SQUARE, l2=0.1, optimizer={"kind": "adam", "no_decay": ["*bias*"]}, batch_size=4)
    assert dlbridge.train(model, data, framework="keras", spec=spec).history["loss"]
