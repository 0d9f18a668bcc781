"""What is printed shows the architecture: a repeated block is one class, and names are the original's."""

import re

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.source.names import snake_case
from tests.helpers.architectures import Bert, DenseNet, ResNet18, randomized

CASES = {
    "resnet18": (ResNet18, {"x": "float32[batch,3,32,32]"}),
    "bert": (Bert, {"tokens": "int64[batch,time]", "mask": "float32[batch,time]"}),
    "densenet": (DenseNet, {"x": "float32[batch,3,32,32]"}),
}
#: The class of the block that each repeats.
REPEATED = {"resnet18": "BasicBlock", "bert": "BertLayer", "densenet": "DenseLayer"}


@pytest.fixture(scope="module", params=CASES)
def read(request):
    torch.manual_seed(0)
    kind, inputs = CASES[request.param]
    module = randomized(kind())
    return request.param, module, dlbridge.load(module, inputs=inputs)


def examples(batch, time):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(batch, 3, 32, 32)).astype(np.float32)
    return {
        "resnet18": {"x": image},
        "densenet": {"x": image},
        "bert": {
            "tokens": rng.integers(0, 50, (batch, time)),
            "mask": (rng.random((batch, time)) < 0.8).astype(np.float32),
        },
    }


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_a_repeated_block_is_one_class(read, framework):
    name, module, model = read
    source = model.write(framework)
    wanted = REPEATED[name]
    assert len(re.findall(rf"^(?:class {wanted}|def {snake_case(wanted)})\w*\(", source.text, re.MULTILINE)) == 1
    assert len(source.text.splitlines()) <= 120
    live = frameworks.get(framework).load(source)
    for batch, time in ((3, 7), (1, 5)):
        given = examples(batch, time)[name]
        with torch.no_grad():
            right = module(**{k: torch.from_numpy(v) for k, v in given.items()}).numpy()
        (got,) = frameworks.get(framework).run(live, given).values()
        assert np.abs(got - right).max() <= 1e-5 * np.abs(right).max()


def test_what_is_computed_again_and_again_is_a_loop(read):
    name, _, model = read
    looped = {
        "resnet18": ([], []),
        "bert": (["for layer in self.layers:"], ["for layer in self.layers:"]),
        "densenet": (["for denselayer in self.children():"] * 2, ["for i in range(1, 8):", "for i in range(1, 6):"]),
    }
    for framework, heads in zip(("pytorch", "keras"), looped[name], strict=True):
        assert re.findall(r"^ +(for (?:\w*layer|i) .*)$", model.write(framework).text, re.MULTILINE) == heads


def test_the_original_state_dict_fits(read):
    _, module, model = read
    model.to_pytorch().load_state_dict(module.state_dict(), strict=True)


def test_names_come_back_from_keras(read):
    _, module, model = read
    live = model.to_keras()
    assert not any("." in variable.path for variable in live.variables)  # Keras' PyTorch backend takes none
    given = {v.name: f"{v.dtype.numpy()}[{','.join(map(str, v.shape))}]" for v in model.inputs}
    again = dlbridge.load(live, inputs=given)
    again.to_pytorch().load_state_dict(module.state_dict(), strict=True)


def test_what_forward_makes_is_on_the_device_of_its_inputs(read):
    name, _, model = read
    live = model.to_pytorch().to("meta")
    given = {k: torch.from_numpy(v).to("meta") for k, v in examples(2, 4)[name].items()}
    assert live(*given.values()).device.type == "meta"


def test_the_structure_survives_an_onnx_file(read, tmp_path):
    name, module, model = read
    model.to_onnx(tmp_path / "model.onnx")
    again = dlbridge.load(tmp_path / "model.onnx")
    wanted = REPEATED[name]
    assert len(re.findall(rf"^class {wanted}\w*\(", again.write("pytorch").text, re.MULTILINE)) == 1
    again.to_pytorch().load_state_dict(module.state_dict(), strict=True)


def test_a_conversion_is_compared_with_the_module(read):
    name, module, model = read
    given = examples(2, 4)[name]
    module.train()
    (got,) = model.original(given).values()
    assert module.training
    module.eval()
    with torch.no_grad():
        np.testing.assert_array_equal(got, module(**{k: torch.from_numpy(v) for k, v in given.items()}).numpy())
    report = dlbridge.verify(model, routes=["original", "pytorch", "onnx"], judge="original", battery="quick")
    assert report.passed
    assert report.judge == "the original"


class Encoding(torch.nn.Module):
    """A layer that is another block's too, a reshape whose size differs, and a part with a name like any literal's."""

    def __init__(self, shared, size):
        super().__init__()
        self.position, self.size = shared, size
        self.value = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))

    def forward(self, x):
        y = self.value(torch.relu(self.position(x)))
        return torch.flatten(torch.tanh(y.reshape(-1, self.size, 4 // self.size)), 1) + x


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_a_layer_that_blocks_share_stays_shared(framework):
    shared = torch.nn.Linear(4, 4)
    module = torch.nn.Sequential(Encoding(shared, 2), Encoding(shared, 4))
    source = dlbridge.load(module, inputs={"input": "float32[batch,4]"}).write(framework)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    live = frameworks.get(framework).load(source)
    (got,) = frameworks.get(framework).run(live, {"input": x}).values()
    np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=1e-6)
    if framework == "pytorch":
        assert len(list(source.execute()[source.entry]().parameters())) == len(list(module.parameters()))
    else:
        assert live.count_params() == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_a_norm_that_blocks_share_stays_one_layer(framework):
    shared = torch.nn.GroupNorm(2, 4)
    shared.weight.data.normal_()
    module = torch.nn.Sequential(Encoding(shared, 2), Encoding(shared, 4))
    source = dlbridge.load(module, inputs={"input": "float32[batch,4]"}).write(framework)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    live = frameworks.get(framework).load(source)
    (got,) = frameworks.get(framework).run(live, {"input": x}).values()
    np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=1e-5)


class Table(torch.nn.Module):
    """Position bias: layers over a table, which see nothing of the input."""

    def __init__(self):
        super().__init__()
        self.mlp = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
        self.register_buffer("table", torch.arange(10.0).reshape(5, 2), persistent=False)

    def forward(self):
        return self.mlp(self.table)


class Biased(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = Table()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) + self.bias()


def test_a_block_without_inputs():
    module = torch.nn.Sequential(Biased(), Biased())
    live = dlbridge.load(module, inputs={"input": "float32[batch,5,4]"}).to_keras()
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    (got,) = frameworks.get("keras").run(live, {"input": x}).values()
    np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=1e-5)


def test_a_block_reads_sizes_of_its_own_tensors_and_prints_no_helper_for_a_variable_of_its_name():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qk = torch.nn.Linear(8, 16)
            self.register_buffer("mask", torch.ones(12, 12).tril())

        def forward(self, x):
            time = x.shape[1]
            q, k = self.qk(x).chunk(2, dim=-1)
            scores = (q @ k.transpose(1, 2)).masked_fill(self.mask[:time, :time] == 0, float("-inf"))
            return scores.softmax(-1) @ x

    module = torch.nn.Sequential(Attention(), Attention(), Attention()).eval()
    x = torch.randn(2, 5, 8)
    model = dlbridge.load(module, inputs={"input": "float32[batch,time,8]"})
    text = model.write("pytorch").text
    assert "nn.Sequential" in text and "def slice_" not in text and text.count("forward(self, x)") == 1, text
    assert re.search(r"self\.mask\[:\w+\.shape\[1\], :\w+\.shape\[1\]\]", text), text
    assert "constant" not in model.write("keras").text
    assert torch.allclose(model.to_pytorch()(x), module(x), atol=1e-6)


class Windowed(torch.nn.Module):
    """A bias that is looked up by a table of places, each block's own, as Swin and LeViT have it."""

    def __init__(self, stride):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.randn(9))
        self.register_buffer("places", torch.arange(81).reshape(9, 9) % 9, persistent=False)
        self.conv = torch.nn.Conv2d(1, 1, 3, stride, 1)

    def forward(self, x):
        return self.conv(x + self.bias[self.places])


def test_blocks_with_equal_constants_and_strides_of_other_types_are_one_class():
    module = torch.nn.Sequential(Windowed(1), Windowed((1, 3)))
    source = dlbridge.load(module, inputs={"input": "float32[batch,1,9,9]"}).write("pytorch")
    assert len(re.findall(r"^class Windowed\w*\(", source.text, re.MULTILINE)) == 1
    x = np.random.default_rng(0).normal(size=(3, 1, 9, 9)).astype(np.float32)
    pytorch = frameworks.get("pytorch")
    (got,) = pytorch.run(pytorch.load(source), {"input": x}).values()
    np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=1e-6)


class Branching(torch.nn.Module):
    """A list of which one item has parts that are not one after the other (torchvision's ASPP)."""

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 4, 3, padding=1), Pooled(3, 4)])

    def forward(self, x):
        return torch.cat([conv(x) for conv in self.convs], 1)


class Pooled(torch.nn.Sequential):
    def __init__(self, inside, outside):
        super().__init__(
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(inside, outside, 1), torch.nn.BatchNorm2d(outside)
        )

    def forward(self, x):
        size = x.shape[-2:]
        for part in self:
            x = part(x)
        return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def test_lists_in_lists_are_made_in_one_piece():
    module, x = Branching().eval(), torch.randn(2, 3, 8, 8)
    model = dlbridge.load(module, inputs=(x,))
    assert model.write("pytorch").text.count("self.convs = ") == 1
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(x), module(x))
