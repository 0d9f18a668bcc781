"""Gradients that a model's code stops reach no weights in what is written either, in each framework."""

import warnings

import keras
import numpy as np
import onnxruntime
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.training import TrainingSpec

nn, L = torch.nn, keras.layers

#: How a framework says it.
SAID = {"pytorch": ".detach()", "keras": "ops.stop_gradient(", "nnx": "jax.lax.stop_gradient("}
TRAINED = [name for name in frameworks.trainers() if frameworks.get(name).is_installed]
SPEC = TrainingSpec(
    loss={"op": "MeanSquaredError"}, optimizer={"kind": "sgd", "learning_rate": 0.1}, epochs=1, batch_size=8, seed=0
)


class Net(nn.Module):
    """Two layers, and what stands between them."""

    def __init__(self, how):
        super().__init__()
        self.first, self.last, self.how = nn.Linear(3, 3), nn.Linear(3, 3), how

    def forward(self, x):
        return self.last(getattr(self, self.how)(x))

    def detach(self, x):
        return self.first(x).detach()

    def no_grad(self, x):
        with torch.no_grad():
            return torch.tanh(self.first(x)) * 2

    def two_results(self, x):
        with torch.no_grad():
            low, high = self.first(x).min(), self.first(x)
        return high - low

    def straight_through(self, x):
        y = self.first(x)
        return y + (torch.round(y) - y).detach()

    def of_the_input(self, x):
        with torch.no_grad():
            x = x * 2
        return self.first(x)


def keras_net():
    x = keras.Input((3,), name="x")
    y = keras.ops.stop_gradient(L.Dense(3, name="first")(x))
    return keras.Model(x, L.Dense(3, name="last")(y))


#: What stops, and the layers that learn.
SOURCES = {
    "detach": (lambda: Net("detach"), {"last"}),
    "no_grad": (lambda: Net("no_grad"), {"last"}),
    "two results": (lambda: Net("two_results"), {"last"}),
    "straight through": (lambda: Net("straight_through"), {"first", "last"}),
    "of the input": (lambda: Net("of_the_input"), {"first", "last"}),
    "keras": (keras_net, {"last"}),
}


@pytest.fixture(scope="module", params=SOURCES)
def read(request):
    make, learn = SOURCES[request.param]
    torch.manual_seed(0)
    source = make()
    given = {} if isinstance(source, keras.Model) else {"inputs": {"x": "float32[batch,3]"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", dlbridge.errors.DlbridgeWarning)
        return request.param, source, dlbridge.load(source, **given), learn


@pytest.mark.parametrize("framework", TRAINED)
def test_the_layers_that_learn_are_those_of_the_source(read, framework):
    name, _, model, learn = read
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32) * 3
    output = model.outputs[0].name
    trained = dlbridge.train(model, {"x": x, output: x}, spec=SPEC, framework=framework)
    moved = {key for key, value in trained.model.weights.items() if not np.array_equal(value, model.weights[key])}
    assert {key.partition(".")[0] for key in moved} == learn
    assert (SAID[framework] in model.write(framework).text) == (name != "of the input")


def test_numbers_are_those_of_the_source(read, tmp_path):
    _, source, model, _ = read
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    if isinstance(source, keras.Model):
        wanted = np.asarray(source(x))
    else:
        wanted = source(torch.from_numpy(x)).detach().numpy()
    model.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, atol=1e-6)
    for framework in TRAINED:
        side = frameworks.get(framework)
        (got,) = side.run(side.load(side.write(model)), {"x": x}).values()
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_gradients_are_compared_where_some_are_stopped(read):
    report = dlbridge.verify(read[2], battery="quick", train_steps=1, routes=["pytorch"])
    report.require()
