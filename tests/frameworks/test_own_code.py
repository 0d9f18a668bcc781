"""Modules as people write them in repositories of their own: each is a specimen of a way to write code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error

pytest.importorskip("keras")

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def written(model, framework, **arrays):
    """What a written model makes of the arrays: a list."""
    target = frameworks.get(framework)
    return list(target.run(target.load(model.write(framework)), arrays).values())


def assert_agrees(module, inputs, *feeds, to=("pytorch", "keras")):
    """The module is read, and each form that is written makes the same of each of the feeds."""
    model = dlbridge.load(module.eval(), inputs=inputs)
    for feed in feeds:
        with torch.no_grad():
            wanted = module(**{name: torch.from_numpy(array) for name, array in feed.items()})
        wanted = wanted if isinstance(wanted, (tuple, list)) else [wanted]
        for framework in to:
            for found, one in zip(written(model, framework, **feed), wanted, strict=True):
                assert found.shape == tuple(one.shape), framework
                assert relative_error(found, one.numpy()) < 1e-5, framework
    return model


class Pooled(nn.Module):
    """The pools of CBAM and of TextCNN: their window is the tensor."""

    def forward(self, x):
        both = F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
        other = F.max_pool2d(x, x.size()[2:])
        rows = F.avg_pool2d(x, (x.size(2), 2))
        line = x.flatten(2)
        return both, other, rows, F.max_pool1d(line, line.size(2)).squeeze(2), F.avg_pool1d(line, line.shape[-1])


def test_a_pool_over_the_whole_tensor_takes_any_size():
    sizes = {"x": "float32[batch,3,h,w]"}
    assert_agrees(Pooled(), sizes, {"x": normal(2, 3, 5, 7)}, {"x": normal(1, 3, 8, 4)})


class Layer(nn.Module):
    def __init__(self, size, turned):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, 4))
        self.turned = turned

    def forward(self, x):
        y = x @ self.weight[: x.shape[1]] * x.shape[0]
        return torch.tanh(y) if self.turned else y.cumsum(0)


def test_layers_of_classes_of_one_name_are_saved_to_keras(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Layer(4, True), Layer(4, True)
            self.third, self.fourth = Layer(4, False), Layer(4, False)

        def forward(self, x):
            return self.fourth(self.third(self.second(self.first(x))))

    dlbridge.convert(Net().eval(), "keras", tmp_path / "net", read={"inputs": {"x": "float32[n,4]"}})
    assert "class Layer2(" in (tmp_path / "net" / "model.py").read_text()


class Basis(nn.Module):
    def __init__(self, basis):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("basis", basis)

    def forward(self, x):
        return self.linear(x) @ self.basis


def test_a_buffer_of_several_modules_is_a_buffer_of_each():
    basis = torch.randn(4, 4)
    module = nn.Sequential(Basis(basis), Basis(basis))
    model = assert_agrees(module, {"input": "float32[batch,4]"}, {"input": normal(2, 4)})
    model.to_pytorch().load_state_dict(module.state_dict(), strict=True)


def test_a_module_that_stands_twice_in_a_chain_is_written_to_nnx():
    pytest.importorskip("flax")
    inner = nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    module = nn.Sequential(nn.Linear(3, 4), inner, inner)
    assert_agrees(module, {"input": "float32[batch,3]"}, {"input": normal(2, 3)}, to=("nnx",))


class Optional(nn.Module):
    """A step that one block alone has: what it is called with is no parameter of another meaning."""

    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels, 4, 3, dilation=dilation, padding=dilation)
        self.shortcut = nn.Conv1d(channels, 4, 1) if channels != 4 else None

    def forward(self, x):
        return F.relu(self.conv(x)) + (x if self.shortcut is None else self.shortcut(x))


def test_arguments_that_happen_to_be_equal_are_not_one_parameter():
    module = nn.Sequential(Optional(2, 1), Optional(4, 2), Optional(4, 4)).eval()
    text = dlbridge.load(module, inputs={"input": "float32[batch,2,n]"}).write("pytorch").text
    assert "nn.Conv1d(in_channels, 4, 1) if has_shortcut" in text


class Branches(nn.Module):
    def forward(self, x):
        return x.sin() if x.sum() > 0 else x.cos()


def test_what_cannot_be_exported_is_told_in_one_error_alone(capfd):
    with pytest.raises(dlbridge.DlbridgeError, match="another way for other values"):
        dlbridge.load(Branches(), inputs={"x": "float32[batch,4]"})
    assert capfd.readouterr() == ("", "")


class Warped(nn.Module):
    """A spatial transformer (Jaderberg et al., 2015) for images of any size."""

    def __init__(self):
        super().__init__()
        self.register_buffer("theta", torch.tensor([[[0.9, 0.1, 0.05], [-0.2, 0.8, 0.1]]]))

    def forward(self, x):
        theta = self.theta.expand(x.shape[0], -1, -1)
        return [F.affine_grid(theta, x.size(), align_corners=aligned) for aligned in (False, True)]


def test_an_affine_grid_is_of_any_size():
    assert_agrees(Warped(), {"x": "float32[batch,3,h,w]"}, {"x": normal(2, 3, 5, 7)}, {"x": normal(1, 3, 1, 4)})


class Interleaved(nn.Module):
    """The inverse of a Haar wavelet transform writes every second row and column."""

    def forward(self, x):
        b, c, h, w = x.shape
        out = torch.zeros(b, c, 2 * h, 2 * w)
        out[:, :, 0::2, 1::2] = x
        out[:, :, 1::2, ::2] = -x
        return out, x[:, :, -(h - 1) :]


def test_every_second_element_of_a_free_axis_is_written():
    model = assert_agrees(
        Interleaved(), {"x": "float32[batch,2,h,w]"}, {"x": normal(2, 2, 3, 5)}, {"x": normal(1, 2, 4, 2)}
    )
    assert model.outputs[0].shape[2] != 2


def test_a_size_of_one_in_the_example_fixes_nothing():
    class Cropped(nn.Module):
        def forward(self, x):
            return x[:, -(x.shape[1] - 8) :]

    assert_agrees(Cropped(), {"x": "float32[batch,n]"}, {"x": normal(2, 12)}, {"x": normal(1, 9)})


class Classes(nn.Module):
    def forward(self, x, i):
        return x.gather(1, i) * F.one_hot(i, 3).sum(2)


def test_made_inputs_have_classes_that_there_are():
    dlbridge.convert(Classes(), "onnx", read={"inputs": {"x": "float32[batch,n]", "i": "int64[batch,k]"}})


def test_an_extreme_so_far_runs_in_jax_as_it_comes():
    jax = pytest.importorskip("jax")
    pytest.importorskip("flax")

    class Extreme(nn.Module):
        def forward(self, x):
            return x.cummax(1)

    live = dlbridge.load(Extreme(), inputs={"x": "float32[batch,n]"}).to("nnx")
    values, places = live(jax.numpy.asarray([[1.0, 3.0, 2.0]]))
    assert values.tolist() == [[1, 3, 3]] and places.tolist() == [[0, 1, 1]]


def test_convolutions_of_one_tensor_share_its_transpose():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(2, 3, size, padding="same") for size in (1, 3, 5))

        def forward(self, x):
            y = x.abs()
            return torch.cat([conv(y) for conv in self.convs], 1)

    text = dlbridge.load(Parallel(), inputs={"x": "float32[batch,2,8,8]"}).write("keras").text
    assert text.count("Permute((2, 3, 1))") == 1


class Decoder(nn.Module):
    """A decoder that writes its outputs step by step into a tensor, and calls a chain with PReLU several times."""

    def __init__(self):
        super().__init__()
        self.step = nn.Sequential(nn.Linear(4, 6), nn.PReLU(), nn.Linear(6, 4), nn.PReLU(4))

    def forward(self, x):
        out = torch.zeros(x.shape[0], 3, 4)
        for t in range(3):
            x = self.step(x)
            out[:, t] = x
        return out


def test_outputs_that_are_written_step_by_step_are_stacked():
    model = assert_agrees(Decoder(), {"x": "float32[batch,4]"}, {"x": normal(2, 4)}, {"x": normal(1, 4)})
    text = model.write("pytorch").text
    assert "nn.PReLU(4)" in text and "torch.stack([step, x, self.step(x)], dim=1)" in text


class Places(nn.Module):
    def forward(self, x):
        n = x.shape[1]
        up, down = torch.arange(n, dtype=torch.float32), torch.arange(n - 1, -1, -1, dtype=x.dtype)
        return x + up * down, torch.arange(n // 2, n, dtype=torch.half)


def test_places_as_floats_are_counted_by_sizes():
    model = assert_agrees(Places(), {"x": "float32[batch,n]"}, {"x": normal(2, 7)}, {"x": normal(1, 4)})
    assert "convert_to_numpy" not in model.write("keras").text


class Line(nn.Module):
    """Coordinates as detectors and operators on grids add them."""

    def forward(self, x):
        n = x.shape[1]
        return x * torch.linspace(-1, 1, n), torch.linspace(0, 1, steps=n), torch.linspace(0.5, n - 0.5, n) / n


def test_a_line_has_any_number_of_places():
    assert_agrees(Line(), {"x": "float32[batch,n]"}, {"x": normal(2, 7)}, {"x": normal(1, 1)}, {"x": normal(1, 2)})


def test_the_integer_of_a_quotient_of_sizes_is_refused_with_what_to_write():
    class Windows(nn.Module):
        def forward(self, x):
            return x.view(int(x.shape[0] / (16 * 16 / 4 / 4)), 16, -1)

    with pytest.raises(dlbridge.DlbridgeError, match=r"a // b") as told:
        dlbridge.load(Windows(), inputs={"x": "float32[16*batch,16]"})
    assert "test_own_code.py" in str(told.value)


class Signal(nn.Module):
    """A one-dimensional network as those for speech and ECG, with a pool of the same length."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, padding=1)
        self.halve, self.smooth = nn.MaxPool1d(2), nn.MaxPool1d(2, stride=1, padding=1)

    def forward(self, x):
        y = self.halve(x)
        return self.conv(self.smooth(y)[:, :, : y.size(-1)]) + y.mean()


def test_a_pool_of_one_axis_takes_any_length():
    model = assert_agrees(Signal(), {"x": "float32[batch,2,n]"}, {"x": normal(2, 2, 9)}, {"x": normal(1, 2, 4)})
    assert "nn.MaxPool1d" in model.write("pytorch").text or "F.max_pool1d" in model.write("pytorch").text


def test_pairs_of_numbers_are_computed_once():
    class Pairs(nn.Module):
        def forward(self, x):
            return x.sum() + torch.cartesian_prod(torch.arange(2), torch.arange(3))

    assert_agrees(Pairs(), {"x": "float32[batch]"}, {"x": normal(3)})


def test_a_pool_to_one_row_takes_no_part_of_the_tensor():
    module = nn.Sequential(nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveMaxPool2d((1, None)))
    model = assert_agrees(module, {"input": "float32[batch,2,h,w]"}, {"input": normal(2, 2, 3, 5)})
    assert "[:, " not in model.write("pytorch").text
