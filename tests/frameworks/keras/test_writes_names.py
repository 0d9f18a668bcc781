"""Names of layers in written Keras never meet those that Keras gives by itself, whatever the process did before."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import dlbridge
from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.printing import automatic


class Named(nn.Module):
    """Layers under the names of what is computed beside them."""

    def __init__(self, names, size=4):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(size, size))

    def forward(self, x):
        for layer in self.children():
            y = layer(x)
            x = torch.relu(y @ x.transpose(-1, -2) @ y + x) * x.softmax(-1) - x[..., :1].exp() / (1 + y.abs().mean())
        return x


#: Ways in which the counters of Keras may stand.
BEFORE = {"nothing": 0, "some": 3}


@pytest.mark.parametrize("before", BEFORE)
def test_layers_called_as_operations(before):
    operations = ("matmul", "add", "relu", "multiply", "softmax", "subtract", "get_item", "exp", "true_divide", "mean")
    names = [f"{name}_{number}" if number else name for name in operations for number in range(3)]
    with compat.counters_kept(fresh=True):
        for _ in range(BEFORE[before]):
            x = keras.Input((4, 4))
            keras.ops.relu(keras.ops.matmul(x, x) + x) * keras.ops.softmax(x)
        net = Named(names).eval()
        x = torch.randn(2, 4, 4)
        model = dlbridge.load(net, inputs=(x,))
        live = model.to_keras()
        np.testing.assert_allclose(np.asarray(live(x.numpy())), net(x).detach().numpy(), atol=1e-3, rtol=1e-3)


def _onnx(path, names):
    """MatMuls of the input with itself, then with weights: these have names."""
    random = np.random.default_rng(0)
    nodes = [helper.make_node("Transpose", [names[0]], ["t"], perm=[0, 2, 1])]
    weights, last = [], "t"
    for name in names[1:]:
        weights.append(numpy_helper.from_array(random.normal(size=(4, 4)).astype("float32") / 2, f"{name}_w"))
        nodes += [
            helper.make_node("MatMul", [last, "t"], [f"{name}_a"]),
            helper.make_node("MatMul", [f"{name}_a", f"{name}_w"], [name], name=name),
        ]
        last = name
    nodes.append(helper.make_node("Relu", [last], ["y"]))
    shape = ["batch", 4, 4]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (names[0], "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.mark.parametrize("first", ["x", "matmul", "matmul_2", "transpose"])
def test_names_of_an_exporter(tmp_path, first):
    """Also of an input."""
    _onnx(tmp_path / "m.onnx", [first, "matmul_1", "node_matmul_2", "matmul_5"])
    model = dlbridge.load(tmp_path / "m.onnx")
    x = np.random.default_rng(1).normal(size=(2, 4, 4)).astype("float32")
    live = model.to_keras()
    torch_result = model.to_pytorch()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.asarray(live(x)), torch_result, atol=1e-4)


@pytest.mark.parametrize("name", ["re_lu", "re_lu_1", "max_pooling2d", "flatten_2", "dropout"])
def test_a_layer_called_as_an_unnamed_one(name):
    net = nn.Sequential()
    net.add_module(name, nn.Conv2d(3, 3, 3))
    net.append(nn.ReLU())
    net.append(nn.MaxPool2d(2))
    net.append(nn.ReLU())
    net.append(nn.Dropout())
    net.append(nn.Flatten())
    x = torch.randn(1, 3, 6, 6)
    with compat.counters_kept(fresh=True):
        live = dlbridge.load(net.eval(), inputs=(x,)).to_keras()
    image = x.numpy()
    out = live(image if live.input_shape[1] == 3 else image.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(np.asarray(out), net(x).detach().numpy(), atol=1e-5)


def test_two_paths_that_are_one_name_in_keras():
    net = nn.ModuleDict({"a_b": nn.Linear(3, 3), "a-b": nn.Linear(3, 3)})

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("a_b", net["a_b"])
            self.add_module("a-b", net["a-b"])

        def forward(self, x):
            return self.get_submodule("a-b")(torch.tanh(self.a_b(x)))

    both, x = Both().eval(), torch.randn(2, 3)
    live = dlbridge.load(both, inputs=(x,)).to_keras()
    np.testing.assert_allclose(np.asarray(live(x.numpy())), both(x).detach().numpy(), atol=1e-5)


def test_names_that_nothing_takes_stay():
    net = Named(["dense", "norm", "conv", "dropout"])
    text = dlbridge.load(net.eval(), inputs=(torch.randn(2, 4, 4),)).write("keras").text
    for name in ("dense", "norm", "conv", "dropout"):
        assert f'name="{name}"' in text


def test_what_functions_make_is_known():
    found = automatic.automatic_names([{"ops.softmax", "keras.activations.gelu"}], {"ReLU"})
    assert {"softmax", "gelu", "re_lu", "add", "multiply", "matmul", "get_item"} <= found
    assert automatic.is_automatic("add_12", found) and not automatic.is_automatic("add_a", found)


class Scaling(nn.Module):
    """A block whose author calls a tensor as a printed function may call its number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.score, self.content = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        value = self.content(x)
        score = self.score(x) * self.factor
        return torch.softmax(score, -1) * value


def test_no_variable_has_the_name_of_a_number_that_a_function_is_given():
    net = nn.Sequential(Scaling(0.5), Scaling(3.0)).eval()
    x = torch.randn(2, 4)
    model = dlbridge.load(net, inputs={"input": "float32[batch,4]"})
    assert "value," in dlbridge.frameworks.get("keras").write(model).text
    live = model.to_keras()
    np.testing.assert_allclose(np.asarray(live(x.numpy())), net(x).detach().numpy(), atol=1e-5, rtol=1e-5)


class Twice(nn.Module):
    """A block that calls a layer twice, with numbers of its own before, within and behind it."""

    def __init__(self, factor, epsilon):
        super().__init__()
        self.factor = factor
        self.layer, self.out = nn.LayerNorm(4, epsilon), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.tanh(x) + self.layer(x) * self.factor
        x = torch.sigmoid(x) - self.layer(x) * (self.factor + 1)
        return self.out(x) * (self.factor + 2)


def test_a_function_that_calls_a_layer_twice_puts_each_number_where_it_belongs():
    net = nn.Sequential(Twice(0.5, 0.1), Twice(3.0, 0.2)).eval()
    x = torch.randn(2, 4)
    model = dlbridge.load(net, inputs={"input": "float32[batch,4]"})
    assert dlbridge.frameworks.get("keras").write(model).text.count("def ") == 2  # one function for both blocks
    live = model.to_keras()
    np.testing.assert_allclose(np.asarray(live(x.numpy())), net(x).detach().numpy(), atol=1e-5, rtol=1e-5)
