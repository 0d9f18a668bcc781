"""PyTorch -> dlbridge -> PyTorch: the original's state dict loads into the written model, whatever its names are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dlbridge
from dlbridge.verification.compare import relative_error


class Scaled(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.register_parameter("lambda", nn.Parameter(torch.randn(channels, 1, 1)))
        self.register_buffer("a-b", torch.randn(channels, 1, 1))
        self.shifts = nn.ParameterDict({"x-y": nn.Parameter(torch.randn(channels, 1, 1))})

    def forward(self, x):
        return F.relu(self.conv(x)) * getattr(self, "lambda") + getattr(self, "a-b") * self.shifts["x-y"]


class OddNames(nn.Module):
    """Names of modules and weights that are no names in Python."""

    shape = (2, 3, 9, 9)

    def __init__(self):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 8, 3))
        for number in range(3):
            self.stage.add_module(f"block1-{number}", Scaled(8))
        self.heads = nn.ModuleDict({"class": nn.Linear(8, 4), "import": Scaled(8)})

    def forward(self, x):
        return self.heads["class"](self.heads["import"](self.stage(x)).mean((2, 3)))


class Conv1D(nn.Module):
    """A linear layer with its weight as (in, out), as GPT-2 has it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Products(nn.Module):
    shape = (2, 5, 8)

    def __init__(self):
        super().__init__()
        self.expand, self.project = Conv1D(8, 6), Conv1D(6, 8)
        self.w, self.offset = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        x = x + self.project(torch.tanh(self.expand(x)))
        return x @ self.w + self.offset


class Encoder(nn.Module):
    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.embed_tokens, self.fc = embedding, nn.Linear(8, 8)

    def forward(self, ids):
        return self.fc(self.embed_tokens(ids))


class Tied(nn.Module):
    """One matrix under four names, two of which nothing calls."""

    shape = (2, 5)

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(11, 8)
        self.encoder, self.decoder = Encoder(self.shared), Encoder(self.shared)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.shared.weight

    def forward(self, ids):
        return self.head(self.encoder(ids) + self.decoder(ids))


class Scale(nn.Module):
    def __init__(self, scale: nn.Parameter):
        super().__init__()
        self.fc, self.scale = nn.Linear(8, 8), scale

    def forward(self, x):
        return torch.tanh(self.fc(x)) * self.scale


class TiedInSequence(nn.Module):
    """The parts of a sequence hold the same parameter, so that it is no chain of modules."""

    shape = (2, 5, 8)

    def __init__(self):
        super().__init__()
        scale = nn.Parameter(torch.randn(8))
        self.stage = nn.Sequential(*(Scale(scale) for _ in range(3)))

    def forward(self, x):
        return self.stage(x)


class Wrapped(nn.Module):
    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.fc, self.norm = linear, nn.LayerNorm(8)

    def forward(self, x):
        return torch.tanh(self.norm(self.fc(x)))


class ListOfShared(nn.Module):
    """Like TabNet's blocks: layers that are shared stand in a list, too, from which none is called."""

    shape = (2, 5, 8)

    class Block(nn.Module):
        def __init__(self, shared: nn.ModuleList):
            super().__init__()
            self.shared = shared
            self.wrapped = nn.ModuleList([Wrapped(linear) for linear in shared])

        def forward(self, x):
            return self.wrapped[1](self.wrapped[0](x))

    def __init__(self):
        super().__init__()
        shared = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.first, self.second = self.Block(shared), self.Block(shared)
        self.whole = self.first.wrapped[0]

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("kind", [OddNames, Products, Tied, TiedInSequence, ListOfShared])
def test_the_originals_state_dict_loads(kind, tmp_path):
    torch.manual_seed(0)
    module = kind().eval()
    x = torch.arange(10).reshape(kind.shape) if kind is Tied else torch.randn(kind.shape)
    model = dlbridge.load(module, inputs=(x,))
    model.save(tmp_path / "saved")
    for each in (model, dlbridge.load(tmp_path / "saved")):
        written = each.to_pytorch()
        with torch.no_grad():
            for weight in written.parameters():
                weight.zero_()
            written.load_state_dict(module.state_dict(), strict=True)
            assert torch.allclose(written(x), module(x), atol=1e-6)
    with torch.no_grad():
        wanted = module(x).numpy()
    assert relative_error(np.asarray(model.to_keras()(x.numpy())), wanted) <= 1e-6


def test_what_was_tied_is_trained_once():
    written = dlbridge.load(Tied(), inputs=(torch.arange(10).reshape(2, 5),)).to_pytorch()
    assert written.encoder.embed_tokens.weight is written.head.weight is written.shared.weight
    assert len(list(written.parameters())) == 5


def test_a_transposed_linear_trains_like_the_original():
    torch.manual_seed(0)
    module, x = Products(), torch.randn(Products.shape)
    written = dlbridge.load(module, inputs=(x,)).to_pytorch()
    module(x).square().sum().backward()
    written(x).square().sum().backward()
    gradients = {name: weight.grad for name, weight in written.named_parameters()}
    for name, weight in module.named_parameters():
        assert relative_error(gradients[name].numpy(), weight.grad.numpy()) <= 1e-5, name


class Masked(nn.Module):
    """Adds up what a mask lets through, which is no part of the state dict."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(mask.shape[-1], 2)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * self.mask)


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (torch.ones(20, 20).tril(), "torch.ones(20, 20).tril()"),
        (torch.ones(1, 12, 20).tril(3), "torch.ones(1, 12, 20).tril(3)"),
        (torch.ones(20, 20, dtype=torch.float64).triu(1), "torch.ones(20, 20, dtype=torch.float64).triu(1)"),
        (torch.full((20, 20), 0.5), "torch.full((20, 20), 0.5"),
    ],
    ids=str,
)
def test_masks_are_code_and_not_of_the_state_dict(mask, code):
    module, x = Masked(mask), torch.randn(3, *mask.shape[-2:])
    module, x = module.to(mask.dtype), x.to(mask.dtype)
    model = dlbridge.load(module.eval(), inputs=(x,))
    assert code in model.write("pytorch").text
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(x), module(x))


def test_what_is_almost_a_triangle_stays_a_table():
    mask = torch.ones(20, 20).tril()
    mask[7, 3] = 0
    model = dlbridge.load(Masked(mask).eval(), inputs=(torch.randn(3, 20, 20),))
    assert ".tril(" not in model.write("pytorch").text


class Recurrent(nn.Module):
    """A layer of several, and what of it is read."""

    def __init__(self, kind: type[nn.RNNBase], what: str, **options) -> None:
        super().__init__()
        self.rnn = kind(8, 12, **options)
        self.what = what

    def forward(self, x: torch.Tensor, state: torch.Tensor):
        given = (state, state * 2) if self.rnn.mode == "LSTM" else state
        y, final = self.rnn(x, given) if "given" in self.what else self.rnn(x)
        final = final[0] if self.rnn.mode == "LSTM" else final
        if "first" in self.what:
            return final[0], y  # so that the states are no single tensor any more
        return (y, final) if "states" in self.what else final[-1] if "last" in self.what else y


STACKS = {
    "outputs": (nn.LSTM, "y", {"num_layers": 2, "batch_first": True}),
    "dropout, both ways": (nn.LSTM, "y", {"num_layers": 3, "dropout": 0.2, "bidirectional": True}),
    "states": (nn.GRU, "states", {"num_layers": 2, "batch_first": True}),
    "the last state": (nn.LSTM, "last", {"num_layers": 2, "bidirectional": True}),
    "given states": (nn.LSTM, "given states", {"num_layers": 2}),
    "given states, both ways": (nn.GRU, "given states", {"num_layers": 2, "bidirectional": True, "bias": False}),
    "the first state": (nn.RNN, "first", {"num_layers": 2, "nonlinearity": "relu"}),
}


@pytest.mark.parametrize("case", STACKS)
def test_recurrent_layers_of_several_stay_one(case):
    kind, what, options = STACKS[case]
    torch.manual_seed(0)
    module = Recurrent(kind, what, **options).eval()
    directions = 2 if options.get("bidirectional") else 1
    x, state = torch.randn(3, 3, 8), torch.randn(options["num_layers"] * directions, 3, 12)
    model = dlbridge.load(module, inputs={"x": x, "state": state}, dynamic={})
    assert f"num_layers={options['num_layers']}" in model.write("pytorch").text
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    for got, wanted in zip(as_list(live(x, state)), as_list(module(x, state)), strict=True):
        torch.testing.assert_close(got, wanted)
    assert live.rnn.dropout == options.get("dropout", 0.0)


class Again(nn.Module):
    """A recurrent layer of several that is called twice, then one that takes its states."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.last = nn.GRU(8, 8, num_layers=2), nn.GRU(8, 8, num_layers=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, state = self.rnn(self.rnn(x)[0])
        return self.last(x, state)[0]


def test_a_recurrent_layer_of_several_that_is_called_again_is_one(tmp_path):
    torch.manual_seed(0)
    module, x = Again().eval(), torch.randn(3, 2, 8)
    model = dlbridge.load(module, inputs=(x,))
    model.save(tmp_path / "again")
    for read in (model, dlbridge.load(tmp_path / "again")):
        live = read.to_pytorch()
        live.load_state_dict(module.state_dict(), strict=True)
        torch.testing.assert_close(live(x), module(x))
    model.to_onnx(tmp_path / "again.onnx")  # there the second call has weights of names that it shares
    torch.testing.assert_close(dlbridge.load(tmp_path / "again.onnx").to_pytorch()(x), module(x))


class Residual(nn.Module):
    """The first call of the layer stands between two transposes, the second between others."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.last = nn.LSTM(8, 8, 2, batch_first=True), nn.LSTM(8, 8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.rnn(x)[0]
        return self.last(self.rnn(x)[0])[0]


@pytest.mark.parametrize("make", [Residual, lambda: nn.LSTM(8, 4, batch_first=True), lambda: nn.GRU(8, 4, 2)])
def test_recurrent_layers_by_layout_and_alone(make):
    torch.manual_seed(0)
    module, x = make().eval(), torch.randn(3, 4, 8)
    live = dlbridge.load(module, inputs=(x,)).to_pytorch()
    for got, wanted in zip(as_list(live(x))[:1], as_list(module(x))[:1], strict=True):
        torch.testing.assert_close(got, wanted)


def test_one_initial_state_of_two():
    class OneState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8, 4, num_layers=2)

        def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return self.rnn(x, (torch.zeros_like(c), c))[0]

    torch.manual_seed(0)
    module, given = OneState().eval(), (torch.randn(3, 2, 8), torch.randn(2, 2, 4))
    live = dlbridge.load(module, inputs=given, dynamic={}).to_pytorch()
    torch.testing.assert_close(live(*given), module(*given))


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


def test_layers_that_were_a_list_of_layers_stay_that():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.LSTM(8, 12), nn.LSTM(12, 12)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)[0]
            return x

    module = Own().eval()
    live = dlbridge.load(module, inputs=(torch.randn(3, 2, 8),)).to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)


class Voice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.first = norm(nn.Conv1d(2, 6, 5, padding=2))
        self.blocks = nn.ModuleList([norm(nn.Conv1d(6, 6, 3, padding=d, dilation=d)) for d in (1, 3)])
        self.critic = nn.utils.parametrizations.weight_norm(nn.Linear(6, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(F.leaky_relu(x, 0.1))
        return self.critic(x.mean(-1))


def test_parametrized_layers_are_one_class_of_a_kind():
    module, x = Voice().eval(), torch.randn(3, 2, 20)
    model = dlbridge.load(module, inputs=(x,))
    text = model.write("pytorch").text
    assert text.count("class SpectralNorm") == text.count("class ParametrizedConv1d") == 1
    assert text.count("weight_norm(nn.Linear(6, 1))") == 1
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(x), module(x))


class Unused(nn.Module):
    """Weights that its code does not read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        self.norm, self.linear, self.unused = nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.norm(x))


@pytest.mark.parametrize("strict", [False, True])
def test_weights_that_are_not_read_are_kept_though_a_strict_export_leaves_them_out(strict):
    module = Unused().eval()
    program = torch.export.export(module, (torch.rand(2, 3),), strict=strict)
    framework = dlbridge.frameworks.get("pytorch")
    live = framework.load(framework.write(dlbridge.load(program)))
    live.load_state_dict(module.state_dict(), strict=True)
    assert {name for name, _ in live.named_parameters()} == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_layers_are_made_in_the_type_of_their_weights(dtype, tmp_path):
    """So the written file runs in it after ``load_state_dict``, which keeps the types that a module was made with."""
    layers = [nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(24, 6)]
    original = nn.Sequential(*layers).to(dtype).append(nn.LayerNorm(6)).eval()
    original[-1].to(dtype)
    name = str(dtype).removeprefix("torch.")
    source = dlbridge.load(original, inputs={"input": f"{name}[batch,3,8]"}).write("pytorch")
    source.save(tmp_path / "net")
    written = source.execute()[source.entry]()
    written.load_state_dict(torch.load(tmp_path / "net" / "weights.pt", weights_only=True))
    x = torch.randn(2, 3, 8).to(dtype)
    assert torch.equal(written.eval()(x), original(x))
