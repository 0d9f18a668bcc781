"""The biases of a recurrent layer take the same steps in either framework."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge.training.spec import TrainingSpec

pytestmark = pytest.mark.keras

nn = torch.nn
RNG = np.random.default_rng(2)


class Reader(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.rnn, self.last = kind(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, 2)

    def forward(self, x):
        return self.last(self.rnn(x)[0][:, -1])


class First(nn.Module):
    """The outputs of a recurrent layer alone."""

    def forward(self, results):
        return results[0][:, -1]


OPTIMIZERS = {
    "momentum": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "adamw": {"kind": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN, nn.GRU])
def test_what_is_read_from_pytorch_trains_as_there(kind, optimizer):
    torch.manual_seed(0)
    module = Reader(kind).double()
    model = dlbridge.load(module, inputs={"x": torch.zeros(2, 3, 4, dtype=torch.float64)})
    assert all(weight.requires_grad for weight in model.to_pytorch().parameters())
    data = {"x": RNG.normal(size=(24, 3, 4)), "label": RNG.normal(size=(24, 2))}
    spec = TrainingSpec(loss={"op": "MeanSquaredError"}, optimizer=OPTIMIZERS[optimizer], epochs=1, batch_size=4)
    trained = {f: dlbridge.train(model, data, framework=f, spec=spec).model for f in ("pytorch", "keras")}
    outputs = [m.to_pytorch()(torch.from_numpy(data["x"])).detach().numpy() for m in trained.values()]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-9, atol=1e-10)
    for name in ("last.weight", "rnn.weight_ih", "rnn.weight_hh"):
        np.testing.assert_allclose(trained["pytorch"].weights[name], trained["keras"].weights[name], rtol=1e-8)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN, nn.GRU])
def test_a_step_that_is_scaled_by_the_size_of_a_matrix_is_not_of_two_biases(kind):
    """LAMB scales matrices; Keras holds the biases of a GRU as the rows of one."""
    torch.manual_seed(0)
    module = nn.Sequential(kind(4, 5, batch_first=True), First(), nn.Linear(5, 2)).double()
    model = dlbridge.load(module, inputs={"input": torch.zeros(2, 3, 4, dtype=torch.float64)})
    data = {"input": RNG.normal(size=(24, 3, 4)), model.outputs[0].name: RNG.normal(size=(24, 2))}
    lamb = {"kind": "lamb", "learning_rate": 0.02, "weight_decay": 0.1}
    spec = TrainingSpec(loss={"op": "MeanSquaredError"}, optimizer=lamb, epochs=2, batch_size=4)
    trained = {f: dlbridge.train(model, data, framework=f, spec=spec).model for f in ("pytorch", "keras")}
    outputs = [m.to_pytorch()(torch.from_numpy(data["input"])).detach().numpy() for m in trained.values()]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-9, atol=1e-10)


def test_a_frozen_second_bias_is_written_as_such():
    module = Reader(nn.LSTM)
    for name, weight in module.named_parameters():
        weight.requires_grad_("bias_hh" not in name)
    live = dlbridge.load(module, inputs={"x": "float32[batch,3,4]"}).to_pytorch()
    assert {n for n, w in live.named_parameters() if not w.requires_grad} == {
        "rnn.bias_hh_l0",
        "rnn.bias_hh_l0_reverse",
    }


def test_a_bias_that_stands_for_two_counts_twice_in_the_norm_that_is_clipped():
    torch.manual_seed(0)
    model = dlbridge.load(Reader(nn.LSTM).double(), inputs={"x": "float64[batch,3,4]"})
    data = {"x": RNG.normal(size=(12, 3, 4)), "label": 9 + RNG.normal(size=(12, 2))}
    spec = TrainingSpec(
        loss={"op": "MeanSquaredError"},
        optimizer={"kind": "sgd", "learning_rate": 0.1},
        clip={"norm": 0.5},
        batch_size=4,
    )
    trained = {f: dlbridge.train(model, data, framework=f, spec=spec).model.weights for f in ("pytorch", "keras")}
    for name in ("last.weight", "rnn.weight_ih", "rnn.weight_hh"):
        np.testing.assert_allclose(trained["pytorch"][name], trained["keras"][name], rtol=1e-9)
