"""Models that return a dict of tensors: what is written returns one too, under the same keys."""

from collections import OrderedDict

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import FileError
from dlbridge.ops import traits
from dlbridge.training import TrainingSpec

WRITTEN = [f for f in ("pytorch", "keras", "nnx") if f in frameworks.names()]
#: Not in the order of the alphabet, and no names of Python; one ends a string.
KEYS = ("logits", "box es", '"])', "class")


class Heads(nn.Module):
    def __init__(self, make=dict, keys=KEYS) -> None:
        super().__init__()
        self.make, self.keys = make, keys
        self.heads = nn.ModuleList(nn.Linear(4, n + 2) for n, _ in enumerate(keys))

    def forward(self, x):
        return self.make((key, head(x)) for key, head in zip(self.keys, self.heads, strict=True))


def read(module):
    torch.manual_seed(0)
    return dlbridge.load(module.eval(), inputs={"x": "float32[batch,4]"})


def called(framework, model, x):
    live = getattr(model, f"to_{framework}", lambda: model.to(framework))()
    return live(torch.from_numpy(x) if framework == "pytorch" else x)


@pytest.mark.parametrize("framework", WRITTEN)
@pytest.mark.parametrize("make", [dict, OrderedDict])
@pytest.mark.parametrize("keys", [KEYS, KEYS[:1]])
def test_a_dict_is_returned_under_the_same_keys(framework, make, keys):
    module, x = Heads(make, keys), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    model, wanted = read(module), module(torch.from_numpy(x))
    made = called(framework, model, x)
    assert isinstance(made, dict)
    assert list(made) == list(keys)
    for key, value in made.items():
        array = value.detach() if framework == "pytorch" else value
        np.testing.assert_allclose(np.asarray(array), wanted[key].detach().numpy(), atol=1e-6)
    live = frameworks.get(framework).load(model.write(framework))
    assert list(frameworks.get(framework).run(live, {"x": x})) == [v.name for v in model.outputs]


def test_a_dict_goes_through_keras_and_back():
    module, x = Heads(), np.ones((2, 4), np.float32)
    again = dlbridge.load(read(module).to_keras())
    made, wanted = again.to_pytorch()(torch.from_numpy(x)), module(torch.from_numpy(x))
    assert sorted(made) == sorted(KEYS)
    for key in KEYS:
        np.testing.assert_allclose(made[key].detach(), wanted[key].detach(), atol=1e-6)


def test_a_class_of_keras_returns_a_dict():
    import keras

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return {"second": self.dense(x), "first": x}

    net = Net()
    net(np.zeros((2, 4), np.float32))
    made = dlbridge.load(net).to_pytorch()(torch.ones(2, 4))
    np.testing.assert_allclose(made["second"].detach(), net(np.ones((2, 4), np.float32))["second"], atol=1e-6)
    np.testing.assert_array_equal(made["first"], np.ones((2, 4)))


def test_what_is_nested_is_a_tuple_as_before():
    class Nested(nn.Module):
        def forward(self, x):
            return {"x": x + 1, "more": (x * 2, x * 3)}

    assert isinstance(read(Nested()).to_pytorch()(torch.ones(1, 4)), tuple)


def test_an_output_that_is_renamed_has_its_new_name_as_a_key():
    model = read(Heads(keys=("logits", "boxes")))
    dlbridge.renaming.rename(model, {"logits": "scores"})
    assert list(model.to_pytorch()(torch.ones(1, 4))) == ["scores", "boxes"]


@pytest.mark.parametrize("framework", WRITTEN)
def test_a_dict_is_trained_on(framework):
    """The loss of each output is that of its key: the same curve as of the model that returns a tuple."""

    class Pair(Heads):
        def forward(self, x):
            return tuple(super().forward(x).values())

    generator = np.random.default_rng(0)
    data = {"x": generator.normal(size=(24, 4)).astype(np.float32)}
    data |= {"a": generator.normal(size=(24, 2)).astype(np.float32)}
    data |= {"b": generator.normal(size=(24, 3)).astype(np.float32)}
    curves = []
    for kind, names in ((Heads, ("z", "a")), (Pair, ("output_0", "output_1"))):
        losses = [{"op": "MeanSquaredError", "of": of, "target": t} for of, t in zip(names, "ab", strict=True)]
        spec = TrainingSpec(loss=losses, optimizer={"kind": "sgd", "learning_rate": 0.1}, epochs=3, batch_size=8)
        module = kind(keys=("z", "a"))
        torch.manual_seed(1)
        for head in module.heads:
            head.reset_parameters()
        curves.append(dlbridge.train(read(module), data, framework=framework, spec=spec).history["loss"])
    np.testing.assert_allclose(*curves, rtol=1e-6)


@pytest.mark.parametrize("framework", WRITTEN)
def test_the_printed_training_takes_the_output_by_its_key(framework):
    model = read(Heads(keys=("z", "a")))
    spec = TrainingSpec(loss={"op": "MeanSquaredError", "of": "a", "target": "t"}, optimizer={"kind": "sgd"}, epochs=1)
    model.training = spec
    source = model.write(framework)
    before = {key: source.array(key).copy() for key in source.weights}
    space = source.execute()
    live = frameworks.get(framework).load(source)
    arrays = np.ones((8, 4), np.float32), np.ones((8, 3), np.float32)
    space["train"](live, *(map(torch.from_numpy, arrays) if framework == "pytorch" else arrays))
    after = frameworks.get(framework).weights(live)
    moved = [key for key in before if not np.array_equal(before[key], after[key])]
    assert len(moved) == 2


@pytest.mark.parametrize("keys", ['["a"', '{"a": 1}', "[1, 2]"])
def test_keys_that_a_file_gets_wrong_are_refused(tmp_path, keys):
    from dlbridge.border import check_traits

    graph = ir.Graph([], [], nodes=[], name="g")
    graph.metadata_props[traits.KEYS] = keys
    with pytest.raises(FileError):
        check_traits(graph)


def test_other_outputs_of_a_file_have_no_keys(tmp_path):
    """Of a cut graph they would be told under the names of others."""
    module = nn.Sequential(nn.ReLU(), Heads(keys=KEYS[:1])).eval()
    model = dlbridge.load(module, inputs={"input": "float32[batch,4]"})
    frameworks.get("onnx").write(model, metadata=True).save(tmp_path / "net.onnx")
    whole = dlbridge.load(tmp_path / "net.onnx")
    assert traits.output_keys(whole.graph) == list(KEYS[:1])
    assert traits.output_keys(dlbridge.load(tmp_path / "net.onnx", until_values=("0",)).graph) is None
