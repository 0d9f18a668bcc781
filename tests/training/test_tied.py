"""A weight that two layers have, and a layer that is called twice, train as one in every framework."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import TrainingError
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


class OfTwoKinds(nn.Module):
    """A convolution has the matrix of a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear, self.bias = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        x = nn.functional.conv1d(x.transpose(1, 2), self.linear.weight[:, :, None], self.bias)
        return self.linear(torch.tanh(x.transpose(1, 2)))


class ScaleOfANorm(nn.Module):
    """The scale of a normalization is a factor, too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(x).tanh() * self.norm.weight


class InALoop(nn.Module):
    """Two recurrent layers have the weights of the input in common, and a linear layer has them, too."""

    def __init__(self, has_linear):
        super().__init__()
        self.one, self.other = nn.GRU(4, 4, batch_first=True), nn.GRU(4, 4, batch_first=True)
        self.other.weight_ih_l0 = self.one.weight_ih_l0
        self.linear = nn.Linear(4, 12) if has_linear else None
        if has_linear:
            self.linear.weight = self.one.weight_ih_l0

    def forward(self, x):
        x = self.other(self.one(x)[0])[0]
        return self.linear(x)[..., :4] if self.linear is not None else x


GIVEN = np.random.default_rng(0).normal(size=(2, 4, 5, 4)).astype("f4")
STEPS = TrainingSpec(loss={"op": "MeanSquaredError"}, optimizer={"kind": "sgd"}, epochs=2, batch_size=4, shuffle=False)


@pytest.mark.parametrize("net", [OfTwoKinds(), ScaleOfANorm(), InALoop(True)])
@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
def test_what_would_train_apart_is_refused(net, framework):
    model = dlbridge.load(net, inputs={"x": "float32[batch,5,4]"})
    data = {"x": GIVEN[0], "label": GIVEN[1]}
    try:
        found = dlbridge.train(model, data, framework=framework, spec=STEPS).model.weights
    except TrainingError as error:
        assert "train apart" in str(error)
        assert framework != "pytorch" or isinstance(net, InALoop)
        return
    trained = copy.deepcopy(net)
    optimizer = torch.optim.SGD(trained.parameters(), STEPS.optimizer.learning_rate)
    for _ in range(STEPS.epochs):
        optimizer.zero_grad()
        nn.functional.mse_loss(trained(torch.tensor(GIVEN[0])), torch.tensor(GIVEN[1])).backward()
        optimizer.step()
    for name, weight in trained.named_parameters():
        np.testing.assert_allclose(found[name], weight.detach().numpy(), atol=1e-6, err_msg=name)


def test_recurrent_layers_that_have_one_weight_in_common_keep_their_others():
    net = InALoop(False).eval()
    model = dlbridge.load(net, inputs={"x": "float32[batch,5,4]"})
    (found,) = frameworks.get("onnx").run(model.to("onnx"), {"x": GIVEN[0]}).values()
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.tensor(GIVEN[0])).numpy(), atol=1e-6)


class Codes(nn.Module):
    """A weight that a layer, a product and arithmetic read: the nearest row of a table, and what the rows are long."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        w = self.layer.weight
        near = 2 * x @ w.t() - (w**2).sum(1)
        return near + self.layer(near.argmax(-1) if isinstance(self.layer, nn.Embedding) else x).sum(-1, keepdim=True)


@pytest.mark.parametrize("make", [lambda: nn.Embedding(7, 4), lambda: nn.Linear(4, 7)], ids=["embedding", "linear"])
@pytest.mark.parametrize("framework", [f for f in ("pytorch", "keras", "nnx") if f in frameworks.names()])
def test_what_layers_and_operations_read_is_one_variable(framework, make):
    torch.manual_seed(0)
    module = Codes(make()).eval()
    source = dlbridge.load(module, inputs={"x": "float32[batch,4]"}).write(framework)
    read = [view.initializer for weight in source.weights.values() for view in weight.views]
    assert sorted(read) == sorted(f"layer.{name}" for name, _ in module.layer.named_parameters())
    x = torch.randn(3, 4)
    live = frameworks.get(framework).load(source)
    (made,) = frameworks.get(framework).run(live, {"x": x.numpy()}).values()
    np.testing.assert_allclose(made, module(x).detach(), atol=1e-5)
