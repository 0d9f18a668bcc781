"""What trains of a model, and what does not: it is the same in every form of the model, and in training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dlbridge
from dlbridge.training.spec import TrainingSpec

nn, L = torch.nn, keras.layers
RNG = np.random.default_rng(0)


def trained(live: nn.Module) -> set[str]:
    return {name for name, weight in live.named_parameters() if weight.requires_grad}


def trained_in_keras(model) -> set[str]:
    """Names of the initializers that train in written Keras."""
    live = model.to_keras()
    variables = {id(v) for v in live.trainable_variables}
    from dlbridge.frameworks.keras.runner import trainable_variables

    found = {k: v for k, v in trainable_variables(live).items() if id(v) in variables}
    return {view.initializer for key in found for view in live.dlbridge_source.weights[key].views}


def forms(model, tmp_path):
    """The model, and the one that comes back from its description."""
    model.save(tmp_path / "saved")
    return model, dlbridge.load(tmp_path / "saved")


# --- frozen weights --------------------------------------------------------------------------------------------------


class Tuned(nn.Module):
    """A backbone of equal blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8)) for _ in range(3)])
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x) * self.scale
        for block in self.blocks:
            x = block(x)
        return self.head(x)


FROZEN = {
    "nothing": (),
    "the backbone": ("stem", "blocks"),
    "two blocks": ("blocks.0", "blocks.2"),
    "one bias": ("head.bias",),
    "a norm": ("blocks.1.2",),
    "a free weight": ("scale",),
    "all but the head": ("stem", "blocks", "scale"),
    "everything": ("",),
}


@pytest.mark.parametrize("case", FROZEN)
def test_frozen_weights_stay_frozen(case, tmp_path):
    torch.manual_seed(0)
    module = Tuned()
    for name, weight in module.named_parameters():
        if any(path == "" or f"{name}.".startswith(f"{path}.") for path in FROZEN[case]):
            weight.requires_grad_(False)
    for model in forms(dlbridge.load(module, inputs={"x": "float32[batch,4]"}), tmp_path):
        live = model.to_pytorch()
        assert trained(live) == trained(module)
        live.load_state_dict(module.state_dict(), strict=True)
        assert trained_in_keras(model) == trained(module)
        x = torch.randn(5, 4)
        np.testing.assert_allclose(np.asarray(model.to_keras()(x.numpy())), module(x).detach().numpy(), atol=1e-5)


def test_frozen_modules_are_written_as_a_person_would():
    module = Tuned()
    module.blocks.requires_grad_(False)
    module.stem.bias.requires_grad_(False)
    text = dlbridge.load(module, inputs={"x": "float32[batch,4]"}).write("pytorch").text
    assert "        self.blocks.requires_grad_(False)\n" in text
    assert "        self.stem.bias.requires_grad_(False)\n" in text
    assert text.count("requires_grad_") == 2
    sequence = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    sequence[0].requires_grad_(False)
    model = dlbridge.load(sequence, inputs=("float32[batch,4]",))
    assert "        self[0].requires_grad_(False)\n" in model.write("pytorch").text
    assert 'layers.Dense(8, activation="relu", trainable=False' in model.write("keras").text


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_frozen_weights_and_statistics_do_not_move_in_training(framework):
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    module[0].requires_grad_(False)
    module[1].eval()
    model = dlbridge.load(module, inputs=("float32[batch,4]",))
    spec = TrainingSpec(
        loss={"op": "SoftmaxCrossEntropyLoss"}, optimizer={"kind": "adam", "learning_rate": 0.01}, epochs=1
    )
    data = {"input": RNG.normal(size=(32, 4)).astype("f4") + 1, "label": RNG.integers(0, 3, 32)}
    after = dlbridge.train(model, data, framework=framework, spec=spec).model.weights
    moved = {name for name, array in model.weights.items() if np.any(after[name] != array)}
    still = {"0.weight", "0.bias", "1.running_mean", "1.running_var"}
    assert not moved & still
    assert {"1.weight", "1.bias", "3.running_mean", "3.running_var", "3.weight", "4.weight", "4.bias"} <= moved


# --- Keras -----------------------------------------------------------------------------------------------------------


def nested() -> keras.Model:
    inner = keras.Sequential(
        [keras.Input((6,)), L.Dense(6, name="in"), L.BatchNormalization(name="norm")], name="inner"
    )
    return keras.Sequential([keras.Input((4,)), L.Dense(6, name="a"), inner, L.Dense(3, name="b")])


KERAS = {
    "a layer": lambda model: setattr(model.get_layer("a"), "trainable", False),
    "a nested model": lambda model: setattr(model.get_layer("inner"), "trainable", False),
    "the model": lambda model: setattr(model, "trainable", False),
    "a layer of a nested model": lambda model: setattr(model.get_layer("inner").get_layer("norm"), "trainable", False),
}


@pytest.mark.parametrize("case", KERAS)
def test_what_keras_does_not_train_does_not_train(case, tmp_path):
    original = nested()
    KERAS[case](original)
    norm = original.get_layer("inner").get_layer("norm")
    for model in forms(dlbridge.load(original), tmp_path):
        live = model.to_pytorch()
        assert len(trained(live)) == len(original.trainable_variables)
        back = model.to_keras()
        assert len(back.trainable_variables) == len(original.trainable_variables)
        again = dlbridge.load(back)
        assert len(again.parameters) == len(original.trainable_variables)
        x = RNG.normal(size=(8, 4)).astype("f4")
        before = {name: value.clone() for name, value in live.named_buffers() if "running" in name}
        live.train()(torch.from_numpy(x))
        moved = any(bool((value != before[n]).any()) for n, value in live.named_buffers() if n in before)
        assert moved == norm.trainable
        statistics = [v.numpy() for v in back.variables if "moving" in v.path]
        back(x, training=True)
        assert (
            any(
                np.any(v.numpy() != s)
                for v, s in zip([v for v in back.variables if "moving" in v.path], statistics, strict=True)
            )
            == norm.trainable
        )


# --- fixed filters ---------------------------------------------------------------------------------------------------

SOBEL = [[[[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]]]


class Filter(nn.Module):
    """A fixed filter: made in forward, or a buffer that is part of the state dict, or one that is not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        if how != "in forward":
            self.register_buffer("weight", torch.tensor(SOBEL), persistent=how == "buffer")

    def forward(self, x):
        return F.conv2d(x, torch.tensor(SOBEL) if self.how == "in forward" else self.weight, padding=1)


class Fixed(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.edges = Filter(how)
        self.body = nn.Conv2d(1, 4, 3)
        self.register_buffer("table", torch.randn(6, 6))
        self.register_buffer("matrix", torch.randn(5, 6))

    def forward(self, x):
        return F.linear(self.body(self.edges(x)) * self.table, self.matrix)


@pytest.mark.parametrize("how", ["in forward", "buffer", "no part of the state dict"])
def test_fixed_filters_are_no_parameters(how, tmp_path):
    torch.manual_seed(0)
    module, x = Fixed(how).eval(), torch.randn(2, 1, 8, 8)
    for model in forms(dlbridge.load(module, inputs={"x": "float32[batch,1,8,8]"}), tmp_path):
        live = model.to_pytorch()
        assert trained(live) == {"body.weight", "body.bias"}
        live.load_state_dict(module.state_dict(), strict=True)
        torch.testing.assert_close(live(x), module(x))
        assert trained_in_keras(model) == {"body.weight", "body.bias"}
        np.testing.assert_allclose(np.asarray(model.to_keras()(x.numpy())), module(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("op", ["embedding", "layer_norm", "group_norm", "batch_norm", "prelu", "conv_transpose1d"])
def test_fixed_weights_of_functions_are_no_parameters(op):
    class Call(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            for name in ("weight", "bias", "mean"):
                self.register_buffer(name, torch.randn(4) + 3)
            self.register_buffer("kernel", torch.randn(4, 2, 3))

        def forward(self, x):
            x = self.linear(x)
            if op == "embedding":
                return F.embedding((x > 0).long(), self.kernel[:, 0].detach()) + x.sum()
            if op == "layer_norm":
                return F.layer_norm(x, (4,), self.weight, self.bias)
            if op == "group_norm":
                return F.group_norm(x, 2, self.weight, self.bias)
            if op == "batch_norm":
                return F.batch_norm(x, self.mean, self.weight, self.weight, self.bias)
            if op == "prelu":
                return F.prelu(x, self.weight)
            return F.conv_transpose1d(x, self.kernel)

    torch.manual_seed(0)
    module, x = Call().eval(), torch.randn(2, 4, 4)
    model = dlbridge.load(module, inputs=(x,))
    live = model.to_pytorch()
    assert trained(live) == {"linear.weight", "linear.bias"} == trained_in_keras(model)
    torch.testing.assert_close(live(x), module(x))
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live.train()(x), module.train()(x))
    np.testing.assert_allclose(np.asarray(model.to_keras()(x.numpy())), module.eval()(x).detach().numpy(), atol=2e-5)


# --- entries of the state dict that the forward pass does not read ---------------------------------------------------


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.head = nn.Linear(4, 2)
        self.extra = nn.ModuleList([nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)])
        self.token = nn.Parameter(torch.randn(5), requires_grad=False)
        self.register_buffer("step", torch.tensor(7))

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize(
    "make",
    [
        Unused,
        lambda: nn.Sequential(nn.Linear(4, 4), Unused()),
        lambda: nn.Linear(4, 3),
        lambda: nn.BatchNorm1d(4),
        lambda: nn.PReLU(4),
        lambda: nn.LSTM(4, 3, 2, bidirectional=True),
        lambda: nn.GRUCell(4, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.TransformerEncoderLayer(4, 2, 8),
    ],
)
def test_the_originals_state_dict_loads_strictly(make, tmp_path):
    torch.manual_seed(0)
    module, x = make().eval(), torch.randn(5, 4)
    given = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)
    for model in forms(dlbridge.load(module, inputs=given, dynamic={}), tmp_path):
        live = model.to_pytorch()
        for key, value in live.state_dict().items():
            torch.testing.assert_close(value, module.state_dict()[key])
        with torch.no_grad():
            for value in live.state_dict().values():
                value.zero_()
        live.load_state_dict(module.state_dict(), strict=True)
        assert trained(live) == trained(module)
        got, wanted = live(*given), module(*given)
        torch.testing.assert_close(*((v[0] if isinstance(v, tuple) else v) for v in (got, wanted)))


def test_a_tensor_that_is_given_twice_is_two_inputs():
    class Difference(nn.Module):
        def forward(self, a, b):
            return a - 2 * b

    x = torch.randn(3, 4)
    model = dlbridge.load(Difference(), inputs=(x, x))
    live = model.to_pytorch()
    torch.testing.assert_close(live(x, x + 1), x - 2 * (x + 1))
    nested = dlbridge.load(Difference(), inputs={"a": x, "b": x}).to_pytorch()
    torch.testing.assert_close(nested(x, x + 1), x - 2 * (x + 1))


@pytest.mark.parametrize("wrap", [False, True])
def test_large_constants_are_no_part_of_the_originals_state_dict(wrap):
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 12)
            self.register_buffer("table", torch.randn(12, 12), persistent=False)

        def forward(self, x):
            return self.linear(x) @ self.table

    torch.manual_seed(0)
    module, x = Table().eval(), torch.randn(2, 12)
    module = nn.Sequential(module, nn.ReLU()) if wrap else module
    model = dlbridge.load(module, inputs=(x,))
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(x), module(x))
    around = nn.Sequential(live)
    around.load_state_dict(nn.Sequential(module).state_dict(), strict=True)
    torch.testing.assert_close(around(x), module(x))
    with pytest.raises(RuntimeError, match="Missing"):
        live.load_state_dict({}, strict=True)
    assert trained(live) == trained(module)
