"""No false alarms: right models of every float type, with ties, tiny and huge outputs, long chains, are certified."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge import api
from dlbridge.errors import UnsupportedOpError


class Of(nn.Module):
    """A function of the module and its input."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


class OfTwo(Of):
    def forward(self, x, y):
        return self.function(self, x, y)


def deep(count, width, activation, norm=False):
    layers = []
    for _ in range(count):
        layers += [nn.Linear(width, width), activation(), *([nn.LayerNorm(width)] if norm else [])]
    return nn.Sequential(*layers)


def residual(count):
    def run(module, x):
        for layer in module.layers:
            x = x + torch.tanh(layer(x))
        return x

    return Of(run, layers=nn.ModuleList(nn.Linear(16, 16) for _ in range(count)))


def convolutions(count):
    layers = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(count):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


#: name -> (what makes it, the sizes of its inputs)
MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)), {"input": "[batch,16]"}),
    "deep_tanh_100": (lambda: deep(100, 16, nn.Tanh), {"input": "[batch,16]"}),
    "deep_relu_60": (lambda: deep(60, 16, nn.ReLU), {"input": "[batch,16]"}),
    "deep_ln_50": (lambda: deep(50, 16, nn.GELU, True), {"input": "[batch,16]"}),
    "residual_80": (lambda: residual(80), {"x": "[batch,16]"}),
    "cnn_12": (lambda: convolutions(12), {"input": "[batch,3,16,16]"}),
    "argmax_ties": (
        lambda: Of(lambda m, x: (F.relu(x - 3).argmax(-1), torch.round(x).argmax(-1))),
        {"x": "[batch,16]"},
    ),
    "argmax": (lambda: Of(lambda m, x: m.l(x).argmax(-1), l=nn.Linear(16, 40)), {"x": "[batch,16]"}),
    "topk": (lambda: Of(lambda m, x: m.l(x).topk(5)[1], l=nn.Linear(16, 40)), {"x": "[batch,16]"}),
    "sort": (lambda: Of(lambda m, x: m.l(x).sort(-1)[0], l=nn.Linear(16, 40)), {"x": "[batch,16]"}),
    "tiny": (lambda: Of(lambda m, x: m.l(x) * 1e-30, l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "tinier": (lambda: Of(lambda m, x: m.l(x) * 1e-38 * 1e-4, l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "huge": (lambda: Of(lambda m, x: m.l(x) * 1e30, l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "overflow": (lambda: Of(lambda m, x: torch.exp(m.l(x) * 200), l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "nan": (lambda: Of(lambda m, x: torch.log(m.l(x)), l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "cancel": (lambda: Of(lambda m, x: (m.l(x) + 1000) - 1000, l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "centered": (
        lambda: Of(lambda m, x: m.l(x) - m.l(x).mean(0, keepdim=True), l=nn.Linear(16, 4)),
        {"x": "[batch,16]"},
    ),
    "softmax_hot": (lambda: Of(lambda m, x: (m.l(x) * 50).softmax(-1), l=nn.Linear(16, 10)), {"x": "[batch,16]"}),
    "logsoftmax": (lambda: Of(lambda m, x: F.log_softmax(m.l(x) * 30, -1), l=nn.Linear(16, 10)), {"x": "[batch,16]"}),
    "var_big_mean": (lambda: Of(lambda m, x: (x + 100).var(-1, unbiased=False)), {"x": "[batch,16]"}),
    "layernorm_big": (lambda: Of(lambda m, x: m.n(x * 0.01 + 30), n=nn.LayerNorm(16)), {"x": "[batch,16]"}),
    "groupnorm_large": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4)), {"input": "[batch,3,64,64]"}),
    "sum_long": (lambda: Of(lambda m, x: x.sum((1, 2, 3))), {"x": "[batch,3,100,100]"}),
    "mean_long": (lambda: Of(lambda m, x: (x + 5).mean((2, 3))), {"x": "[batch,3,100,100]"}),
    "cumsum": (lambda: Of(lambda m, x: x.cumsum(-1)), {"x": "[batch,500]"}),
    "prod": (lambda: Of(lambda m, x: (1 + x * 0.1).prod(-1)), {"x": "[batch,100]"}),
    "lstm_long": (lambda: Of(lambda m, x: m.l(x)[0], l=nn.LSTM(8, 8, batch_first=True)), {"x": "[batch,60,8]"}),
    "gru_long": (lambda: Of(lambda m, x: m.l(x)[0], l=nn.GRU(8, 8, batch_first=True)), {"x": "[batch,60,8]"}),
    "sin_large": (lambda: Of(lambda m, x: torch.sin(m.l(x) * 100), l=nn.Linear(16, 8)), {"x": "[batch,16]"}),
    "floor": (lambda: Of(lambda m, x: torch.floor(m.l(x) * 10), l=nn.Linear(16, 8)), {"x": "[batch,16]"}),
    "threshold": (lambda: Of(lambda m, x: (m.l(x) > 0).int().sum(-1), l=nn.Linear(16, 64)), {"x": "[batch,16]"}),
    "attention": (
        lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu"),
        {"src": "[batch,9,16]"},
    ),
    "encoder6": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 6, enable_nested_tensor=False
        ),
        {"src": "[batch,9,16]"},
    ),
    "boxes": (
        lambda: Of(
            lambda m, x: torch.cat([m.l(x) * 640, m.k(x).sigmoid()], -1), l=nn.Linear(16, 4), k=nn.Linear(16, 3)
        ),
        {"x": "[batch,16]"},
    ),
    "one_column": (lambda: Of(lambda m, x: m.l(x) - m.l(x).detach().mean(), l=nn.Linear(16, 1)), {"x": "[batch,16]"}),
    "rank1": (lambda: Of(lambda m, x: m.l(x).squeeze(-1), l=nn.Linear(16, 1)), {"x": "[batch,16]"}),
    "exp_chain": (lambda: Of(lambda m, x: torch.exp(torch.exp(m.l(x))), l=nn.Linear(16, 8)), {"x": "[batch,16]"}),
    "norm_div": (lambda: Of(lambda m, x: x / (x.norm(dim=-1, keepdim=True) + 1e-6)), {"x": "[batch,16]"}),
    "cosine": (lambda: OfTwo(lambda _, x, y: F.cosine_similarity(x, y)), {"x": "[batch,16]", "y": "[batch,16]"}),
    "bn_small_var": (lambda: Of(lambda m, x: m.b(x), b=nn.BatchNorm1d(16)), {"x": "[batch,16]"}),
    "inverse": (lambda: Of(lambda m, x: 1 / (m.l(x)), l=nn.Linear(16, 4)), {"x": "[batch,16]"}),
    "erf_tail": (lambda: Of(lambda m, x: F.gelu(x - 4)), {"x": "[batch,16]"}),
    "pow": (lambda: Of(lambda m, x: x.abs() ** 7.3), {"x": "[batch,16]"}),
}
#: Those that the default suite tries.
QUICK = ("argmax_ties", "topk", "tiny", "huge", "overflow", "cancel", "boxes", "layernorm_big", "rank1")


def certify(name, dtype, to):
    torch.manual_seed(1)
    make, sizes = MODELS[name]
    module = make().eval().to(getattr(torch, dtype))
    model = dlbridge.load(module, inputs={key: dtype + size for key, size in sizes.items()})
    try:
        written = model.write(to)
    except UnsupportedOpError:
        pytest.skip(f"{to} has no word for it in {dtype}")
    assert api._certified(model, to, written)[1]["passed"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", QUICK)
def test_right_models_are_certified(name, dtype):
    for to in ("pytorch", "onnx"):
        certify(name, dtype, to)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pytorch", "keras", "onnx"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_forty_right_models_raise_no_false_alarm(name, dtype, to):
    certify(name, dtype, to)
