"""A weight that two layers have, and a layer that is called twice, train as one in every framework."""

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import largest_difference


class Tied(nn.Module):
    """The table of the tokens is the head, too; one layer is called with an activation behind it, and without."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.still = nn.Linear(4, 4).requires_grad_(False)
        self.twice = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        x = self.still(self.table(ids))
        x = torch.tanh(self.twice(x))
        return self.head(self.twice(x))


def by_hand(net, data, steps=3, rate=0.1):
    """Plain gradient descent in PyTorch itself."""
    weights = [w for w in net.parameters() if w.requires_grad]
    for _ in range(steps):
        loss = nn.functional.mse_loss(net(torch.tensor(data["ids"])), torch.tensor(data["label"]))
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data -= rate * gradient
    return {name: weight.detach().numpy() for name, weight in net.named_parameters()}


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
def test_what_is_tied_trains_as_one(framework):
    torch.manual_seed(0)
    net = Tied()
    model = dlbridge.load(net, inputs={"ids": "int64[batch,5]"})
    rng = np.random.default_rng(0)
    data = {"ids": rng.integers(0, 7, (4, 5)), "label": rng.normal(size=(4, 5, 7)).astype("f4")}
    spec = TrainingSpec(
        loss={"op": "MeanSquaredError"},
        optimizer={"kind": "sgd", "learning_rate": 0.1},
        epochs=3,
        batch_size=4,
        shuffle=False,
    )
    found = dlbridge.train(model, data, framework=framework, spec=spec).model.weights
    assert largest_difference(found, model.weights) > 1e-3
    for name, array in by_hand(net, data).items():
        np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)


def test_a_layer_that_is_called_twice_has_the_activation_that_is_behind_all_its_calls():
    layer = nn.Linear(4, 4)
    both = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU())
    text = dlbridge.load(both, inputs={"input": "float32[batch,4]"}).write("keras").text
    assert text.count("layers.Dense(") == 1 and 'activation="relu"' in text
    mixed = nn.Sequential(layer, nn.ReLU(), layer, nn.Tanh())
    text = dlbridge.load(mixed, inputs={"input": "float32[batch,4]"}).write("keras").text
    assert text.count("layers.Dense(") == 1 and "activation=" not in text
