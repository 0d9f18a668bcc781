"""ONNX files that torch.onnx and tf2onnx make come back as layers and blocks, with the original's names."""

import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge import frameworks
from tests.helpers.architectures import Bert, ResNet18, randomized


class Grouped(nn.Module):
    """Attention of four heads to keys and values of two, under a mask that each layer makes anew."""

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x, seen):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 4).transpose(1, 2)
        k, v = self.kv(x).view(b, t, 4, 4).transpose(1, 2).split(2, dim=1)
        k, v = (y[:, :, None].expand(b, 2, 2, t, 4).reshape(b, 4, t, 4) for y in (k, v))
        mask = torch.where(seen[:, None, None, :] > 0.5, 0.0, -1e9)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.out(y.transpose(1, 2).reshape(b, t, 16))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Grouped() for _ in range(3))

    def forward(self, x, seen):
        for layer in self.layers:
            x = layer(x, seen)
        return x


def _images(batch, _):
    return (torch.randn(batch, 3, 32, 32),)


def _words(batch, time):
    return torch.randint(0, 50, (batch, time)), (torch.rand(batch, time) < 0.8).float()


def _states(batch, time):
    return torch.randn(batch, time, 16), (torch.rand(batch, time) < 0.8).float()


_TIMES = {0: "batch", 1: "time"}
#: name -> (module, its inputs, their dynamic axes).
MODULES = {
    "resnet18": (ResNet18, _images, {"x": {0: "batch"}}),
    "bert": (Bert, _words, {"tokens": _TIMES, "mask": _TIMES}),
    "decoder": (Decoder, _states, {"x": _TIMES, "seen": _TIMES}),
}


def exported(name, exporter, path):
    """(module, the model that is read from the file that an exporter makes of it)."""
    torch.manual_seed(0)
    kind, make, axes = MODULES[name]
    module = randomized(kind())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "script":
            named = {"input_names": list(axes), "dynamic_axes": axes, "opset_version": 17}
            torch.onnx.export(module, make(2, 6), path, dynamo=False, **named)
        else:
            dims = {size: torch.export.Dim(size) for size in ("batch", "time")}
            shapes = tuple({axis: dims[size] for axis, size in named.items()} for named in axes.values())
            optimize = exporter == "dynamo"
            torch.onnx.export(
                module, make(2, 6), path, dynamo=True, dynamic_shapes=shapes, optimize=optimize, verbose=0
            )
    return module, dlbridge.load(path)


CASES = [("resnet18", "dynamo"), ("resnet18", "script"), ("resnet18", "plain"), ("bert", "dynamo"), ("bert", "script")]


@pytest.mark.parametrize(("name", "exporter"), [*CASES, ("decoder", "dynamo")])
def test_torch_files_come_back_as_layers(name, exporter, tmp_path):
    module, model = exported(name, exporter, tmp_path / f"{name}.onnx")
    text = model.write("pytorch").text
    live = model.to_pytorch()
    inputs = MODULES[name][1](3, 9)
    with torch.no_grad():
        right, got = module(*inputs), live(*inputs)
    assert (got - right).abs().max() <= 1e-5 * right.abs().max()
    classes = re.findall(r"^class (\w+)\(", text, re.MULTILINE)
    assert " @ " not in text
    if name == "resnet18":
        assert len(text.splitlines()) <= 120
        assert ("BatchNorm2d" in text) == (exporter == "plain")  # folded into the convolutions it stays so
        assert live.get_submodule("layer2.0.conv1").weight.shape == (16, 8, 3, 3)
        assert len(classes) == (3 if exporter == "script" else 2)  # the older file does not tell of the classes
        return
    assert "F.scaled_dot_product_attention" in text
    assert len(classes) == {"bert": 3, "decoder": 2}[name]
    live.load_state_dict(module.state_dict(), strict=True)
    if name == "decoder":
        assert "enable_gqa=True" in text and "expand" not in text and text.count("torch.where") == 1


def test_a_keras_file_comes_back_as_layers(tmp_path):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tf2onnx")
    from dlbridge.frameworks.keras.onnx_export import export

    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(50, 16, name="words")(tokens)
    for number in range(2):
        y = keras.layers.MultiHeadAttention(2, 8, name=f"attention_{number}")(x, x)
        x = keras.layers.LayerNormalization(name=f"norm_{number}")(x + y)
        y = keras.layers.Dense(32, activation="gelu", name=f"up_{number}")(x)
        x = x + keras.layers.Dense(16, name=f"down_{number}")(y)
    source = keras.Model(tokens, x)
    model = dlbridge.load(export(source, frameworks.get("keras").read(source), tmp_path / "bert.onnx", opset=18))
    given = {model.inputs[0].name: np.random.default_rng(0).integers(0, 50, (3, 7)).astype(np.int32)}
    right = keras.ops.convert_to_numpy(source(next(iter(given.values()))))
    for target in ("pytorch", "keras"):
        text = model.write(target).text
        (got,) = frameworks.get(target).run(frameworks.get(target).load(model.write(target)), given).values()
        assert np.abs(got - right).max() <= 1e-5 * np.abs(right).max()
        layers = ("nn.Linear", "nn.LayerNorm", "nn.Embedding") if target == "pytorch" else ("layers.Dense", "layers.Em")
        assert all(layer in text for layer in layers), text
        assert all(name in text for name in ("words", "norm_1", "up_0", "down_1"))
        assert "erf" not in text and "sqrt" not in text.replace("sqrt(scale", "")


class Mix(torch.nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = torch.nn.Parameter(a), torch.nn.Parameter(b)

    def forward(self, x):
        return x * self.a + torch.tanh(x) * self.b


def test_a_vector_that_torch_merged_with_another_blocks_does_not_take_the_numbers_of_its_namesake(tmp_path):
    """``1.b`` is ``0.a`` in the file, where ``1.a`` has other numbers."""
    torch.manual_seed(0)
    vectors = [torch.randn(8) for _ in range(3)]
    module = torch.nn.Sequential(Mix(*vectors[:2]), Mix(vectors[2], vectors[0].clone())).eval()
    x = torch.randn(3, 8)
    torch.onnx.export(module, (x,), tmp_path / "mix.onnx", dynamo=True, verbose=False)
    model = dlbridge.load(tmp_path / "mix.onnx")
    assert torch.allclose(model.to_pytorch()(x), module(x), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "bert", "decoder"])
def test_blocks_are_found_by_the_names_of_weights_alone(name, tmp_path):
    """As many tools leave a file: without metadata, with numbers for the names of its nodes."""
    path = tmp_path / f"{name}.onnx"
    module, _ = exported(name, "dynamo" if name == "resnet18" else "plain", path)
    proto = onnx.load(path)
    for number, node in enumerate(proto.graph.node):
        node.name = f"node{number}"
        del node.metadata_props[:]
    model = dlbridge.load(proto)
    text = model.write("pytorch").text
    assert "nn.Module()" not in text
    assert len(re.findall(r"^class ", text, re.MULTILINE)) == {"resnet18": 2, "bert": 3, "decoder": 2}[name]
    if name == "resnet18":
        assert len(text.splitlines()) <= 60 and text.count("relu") == 3
    inputs = MODULES[name][1](3, 9)
    with torch.no_grad():
        assert (model.to_pytorch()(*inputs) - module(*inputs)).abs().max() < 1e-4
