"""Attention that drops its weights in training does so in each framework that it is written in."""

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, FileError
from dlbridge.ops import traits

nn, L = torch.nn, keras.layers

X = {"x": "float32[batch,time,8]"}
TRAINED = [name for name in frameworks.trainers() if frameworks.get(name).is_installed]


class Scaled(nn.Module):
    """Attention in the author's own code, one call for each probability."""

    def __init__(self, *dropouts):
        super().__init__()
        self.project, self.dropouts = nn.Linear(8, 24), dropouts

    def forward(self, x):
        for dropout in self.dropouts:
            q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.project(x).chunk(3, dim=-1))
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout if self.training else 0.0)
            x = x + y.transpose(1, 2).flatten(2)
        return x


class Written(Scaled):
    """The same, written out, with the dropout as a layer."""

    def __init__(self, dropout):
        super().__init__(dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.project(x).chunk(3, dim=-1))
        return (self.dropout(torch.softmax(q @ k.transpose(-1, -2) / 2, dim=-1)) @ v).transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """PyTorch's layer, as it is called with ``options``; the weights are among the results where they are ``read``."""

    def __init__(self, dropout, read=False, options=None, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout, batch_first=True, **settings)
        self.read, self.options = read, options or {}

    def forward(self, x):
        y, weights = self.attention(x, x, x, **self.options)
        return (y, weights) if self.read else y


class Branching(Scaled):
    """Whose code asks for numbers in training, so that it cannot be run without."""

    def forward(self, x):
        if self.training and x.sum() > 1000:
            return x
        return super().forward(x)


class Skipping(Scaled):
    """Which attends once less in training."""

    def forward(self, x):
        return super().forward(x if self.training else F.scaled_dot_product_attention(x, x, x))


def keras_layer(dropout, **options):
    x = keras.Input((None, 8), name="x")
    return keras.Model(x, L.MultiHeadAttention(2, 4, dropout=dropout)(x, x, **options))


SOURCES = {
    "function": lambda: Scaled(0.25),
    "written": lambda: Written(0.25),
    "layer": lambda: Layer(0.25),
    "layer without weights": lambda: Layer(0.25, options={"need_weights": False}),
    "layer with weights": lambda: Layer(0.25, read=True),
    "encoder": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.25, batch_first=True),
    "keras": lambda: keras_layer(0.25),
    "keras with weights": lambda: keras_layer(0.25, return_attention_scores=True),
}


def read(source):
    """(the model, what was told of it)."""
    if isinstance(source, keras.Model):
        return dlbridge.load(source)
    name = "src" if isinstance(source, nn.TransformerEncoderLayer) else "x"
    return dlbridge.load(source, inputs={name: "float32[batch,time,8]"})


def dropouts(model):
    return [traits.dropout(node) for node in model.graph if node.op_type == "Attention"]


def in_training(framework, live, *arrays):
    """The first output of a live model that is in training."""
    if framework == "pytorch":
        torch.manual_seed(0)
        return live.train()(*map(torch.from_numpy, arrays)).detach().numpy()
    if framework == "keras":
        keras.utils.set_random_seed(0)
        return np.asarray(live(arrays, training=True))
    live.train()
    return np.asarray(live(*arrays))


class Alone(nn.Module):
    """Attention alone."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout

    def forward(self, q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("framework", TRAINED)
def test_weights_are_dropped_in_training_alone(framework, masked):
    """Queries of zeros weigh all keys alike, and values of an identity show the weights: 0, or 1 / (1 - p) of them."""
    zeros = np.zeros((16, 4, 8, 8), np.float32)
    identity = np.broadcast_to(np.eye(8, dtype=np.float32), zeros.shape).copy()
    arrays = {"q": zeros, "k": zeros, "v": identity} | ({"mask": np.ones((8, 8), bool)} if masked else {})
    inputs = {n: f"bool[{','.join(map(str, a.shape))}]" if a.dtype == bool else a.shape for n, a in arrays.items()}
    inputs = {n: s if isinstance(s, str) else f"float32[{','.join(map(str, s))}]" for n, s in inputs.items()}
    side = frameworks.get(framework)
    live = side.load(side.write(dlbridge.load(Alone(0.25), inputs=inputs)))
    at_inference = next(iter(side.run(live, arrays).values()))
    np.testing.assert_allclose(at_inference, np.full_like(zeros, 1 / 8), rtol=1e-6)
    dropped = in_training(framework, live, *arrays.values())
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 1 / 8 / 0.75, rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 0.02  # of 4,096 weights: 3 standard deviations


@pytest.mark.parametrize("source", SOURCES)
def test_no_form_loses_it_and_nothing_is_told(source, recwarn):
    model = read(SOURCES[source]())
    assert not [str(w.message) for w in recwarn if issubclass(w.category, DlbridgeWarning)]
    for framework in TRAINED:
        text = model.write(framework).text
        assert "Dropout(0.25" in text or "dropout_p=0.25 if self.training else 0.0" in text
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    live = model.to_pytorch()
    first, second = (live.train()(torch.from_numpy(x)) for _ in range(2))
    first, second = (y if isinstance(y, torch.Tensor) else y[0] for y in (first, second))
    assert not torch.equal(first, second)


def test_each_call_has_its_own():
    model = dlbridge.load(Scaled(0.1, 0.0, 0.3), inputs=X)
    assert dropouts(model) == [0.1, 0.0, 0.3]


def test_a_layer_that_stays_in_eval_mode_drops_nothing():
    model = nn.Sequential(Layer(0.25, options={"need_weights": False}), Layer(0.5, options={"need_weights": False}))
    model.train()
    model[0].eval()
    assert dropouts(dlbridge.load(model, inputs={"input": X["x"]})) == [0.0, 0.5]


def test_it_is_kept_in_a_file(tmp_path):
    model = dlbridge.load(Scaled(0.25), inputs=X)
    model.save(tmp_path / "model")
    model.to_onnx(tmp_path / "model.onnx")
    assert dropouts(dlbridge.load(tmp_path / "model")) == dropouts(dlbridge.load(tmp_path / "model.onnx")) == [0.25]


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (Layer(0.25, add_zero_attn=True), "not kept, as it acts in training alone: dropout of .* attention .0.25."),
        (Skipping(0.25), "not kept, as it acts in training alone: dropout of .* attention .0.25."),
        (Branching(0.25), "is not kept, if there is any: the module cannot be run in training mode"),
    ],
    ids=["its own code", "other calls", "numbers"],
)
def test_what_is_not_kept_is_told(module, told):
    with pytest.warns(DlbridgeWarning, match=told):
        dlbridge.load(module, inputs=X)


@pytest.mark.parametrize("module", [Scaled(0.0), Branching(0.0), Layer(0.0, add_zero_attn=True)])
def test_nothing_is_told_where_nothing_is_dropped(module, recwarn):
    dlbridge.load(module, inputs=X)
    assert not [str(w.message) for w in recwarn if issubclass(w.category, DlbridgeWarning)]


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "1.5", "half", "__import__('os')"])
def test_a_file_says_a_probability_or_is_refused(text, tmp_path):
    model = dlbridge.load(Scaled(0.25), inputs=X)
    for node in model.graph:
        if traits.dropout(node):
            node.metadata_props[traits.DROPOUT] = text
    onnx.save(ir.to_proto(model.ir), tmp_path / "net.onnx")
    with pytest.raises(FileError, match="broken"):
        dlbridge.load(tmp_path / "net.onnx")
