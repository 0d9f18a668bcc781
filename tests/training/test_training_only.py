"""Layers that act in training alone: their law in training, and that no form of a model loses them."""

from collections import OrderedDict

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, DlbridgeWarning
from dlbridge.ops import extension
from tests.helpers.op_cases.case import X, case

nn, L = torch.nn, keras.layers

SHAPE = (400, 6, 5, 4)
LOW = -1.7580993408473766  # of AlphaDropout: the limit of Selu


def in_training(framework, op, x, **attributes):
    """What the written model of one op makes of numbers in training."""
    given = {name: value for name, value in attributes.items() if value != ()}  # onnx writes no empty attribute
    model = case(f"dlbridge:{op}", X(x.shape), **given).model()
    if framework == "pytorch":
        torch.manual_seed(0)
        return model.to_pytorch().train()(torch.from_numpy(x)).detach().numpy()
    keras.utils.set_random_seed(0)
    return np.asarray(model.to_keras()(x, training=True))


def of_groups(y, axes):
    """One element of each group that shares a decision, after checking that the others are the same."""
    first = y[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(y.ndim))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    return first.reshape(-1)


both = pytest.mark.parametrize("framework", ["pytorch", "keras"])


@both
@pytest.mark.parametrize("axes", [(), (1,), (2, 3), (1, 2), (1, 2, 3), (0, 1, 2, 3), (0, -1)], ids=str)
def test_groups_are_dropped_together_and_the_kept_are_scaled(framework, axes):
    ratio, shape = 0.3, (1500, *SHAPE[1:])
    y = in_training(framework, "BroadcastDropout", np.full(shape, 7, np.float32), ratio=ratio, axes=axes)
    groups = of_groups(y, [axis % 4 for axis in axes])
    dropped = groups == 0
    np.testing.assert_allclose(groups[~dropped], 7 / (1 - ratio), rtol=1e-6)
    assert abs(dropped.mean() - ratio) < 5 * np.sqrt(ratio * (1 - ratio) / groups.size)


@both
@pytest.mark.parametrize("axes", [(), (2, 3), (1, 2), (1,)], ids=str)
def test_alpha_dropout_keeps_mean_and_variance(framework, axes):
    ratio = 0.25
    scale = ((1 - ratio) * (1 + ratio * LOW**2)) ** -0.5
    y = in_training(framework, "AlphaDropout", np.ones(SHAPE, np.float32), ratio=ratio, axes=axes)
    groups = of_groups(y, axes)
    dropped = groups < 0.5
    np.testing.assert_allclose(groups[dropped], scale * LOW * (1 - ratio), rtol=1e-5)
    np.testing.assert_allclose(groups[~dropped], scale * (1 - LOW * ratio), rtol=1e-5)
    assert abs(dropped.mean() - ratio) < 5 * np.sqrt(ratio * (1 - ratio) / groups.size)


@both
@pytest.mark.parametrize("op", ["GaussianDropout", "GaussianNoise"])
def test_noise_is_normal_and_independent(framework, op):
    attributes = {"ratio": 0.2} if op == "GaussianDropout" else {"stddev": 0.5}
    x = np.full(SHAPE, 3, np.float32)
    y = in_training(framework, op, x, **attributes)
    noise = (y - x) / 3 if op == "GaussianDropout" else y - x  # either has the standard deviation 0.5
    few = 5 / np.sqrt(noise.size)
    assert abs(noise.mean()) < 0.5 * few
    assert abs(noise.std() - 0.5) < 0.5 * few
    assert abs(((noise / 0.5) ** 4).mean() - 3) < 10 * few
    assert abs(np.corrcoef(noise[:-1].reshape(-1), noise[1:].reshape(-1))[0, 1]) < few


# --- PyTorch ---------------------------------------------------------------------------------------------------------


class SwinDropPath(nn.Module):
    """As transformers has it."""

    def __init__(self, drop_prob=None):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, hidden_states):
        if not self.training or not self.drop_prob:
            return hidden_states
        raise AssertionError("it is not to be trained here")


class DropPath(SwinDropPath):
    """As timm has it."""

    def __init__(self, drop_prob=0.0, scale_by_keep=True):
        super().__init__(drop_prob)
        self.scale_by_keep = scale_by_keep


class StochasticDepth(SwinDropPath):
    """As torchvision has it."""

    def __init__(self, p, mode):
        super().__init__()
        self.p, self.mode = p, mode
        del self.drop_prob


class GaussianNoise(nn.Module):
    """Noise of another law than the layer of that name that is printed."""

    def __init__(self, stddev):
        super().__init__()
        self.stddev = stddev

    def forward(self, x):
        return x + torch.randn_like(x) * self.stddev * x if self.training else x


MODULES = {
    "nn.Dropout1d": (nn.Dropout1d(0.2), (3, 5), "nn.Dropout1d(0.2)", "noise_shape=(None, None, 1)"),
    "nn.Dropout2d": (nn.Dropout2d(), (3, 5, 6), "nn.Dropout2d()", "SpatialDropout2D"),
    "nn.Dropout3d": (nn.Dropout3d(0.3), (3, 5, 6, 2), "nn.Dropout3d(0.3)", "SpatialDropout3D"),
    "nn.Dropout2d of vectors": (nn.Dropout2d(0.3), (3,), "nn.Dropout(0.3)", "Dropout(0.3"),
    "nn.AlphaDropout": (nn.AlphaDropout(0.1), (3,), "nn.AlphaDropout(0.1)", "AlphaDropout(0.1"),
    "nn.FeatureAlphaDropout": (nn.FeatureAlphaDropout(0.1), (3, 5, 6), "nn.FeatureAlphaDropout(0.1)", "AlphaDropout"),
    "timm": (DropPath(0.1), (3, 5, 6), "DropPath(0.1)", "noise_shape=(None, 1, 1, 1)"),
    "transformers": (SwinDropPath(0.1), (3, 5), "DropPath(0.1)", "noise_shape=(None, 1, 1)"),
    "torchvision": (StochasticDepth(0.2, "row"), (3, 5), "DropPath(0.2)", "noise_shape=(None, 1, 1)"),
    "torchvision batch": (StochasticDepth(0.2, "batch"), (3,), "BroadcastDropout(0.2, (0, 1))", "noise_shape=(1, 1)"),
}


@pytest.mark.parametrize("case", MODULES)
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_a_module_of_pytorch_comes_back(case):
    module, shape, printed, layer = MODULES[case]
    module = nn.Sequential(OrderedDict(part=module.train()))
    model = dlbridge.load(module, inputs=(torch.zeros(2, *shape),))
    assert f"self.part = {printed}\n" in model.write("pytorch").text
    assert layer in model.write("keras").text
    assert "forward" not in vars(module.part)
    assert module.part.training

    again = dlbridge.load(model.to_pytorch(), inputs=(torch.zeros(2, *shape),))
    assert [described(n) for n in again.graph] == [described(n) for n in model.graph]


def described(node):
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    numbers = [v.const_value.numpy().tolist() for v in node.inputs[1:]]
    return node.op_type, attributes | {"axes": extension.shared_axes(node)}, numbers


@pytest.mark.parametrize(
    "module", [DropPath(0.0), DropPath(0.1, scale_by_keep=False), SwinDropPath(None), GaussianNoise(0.1)], ids=repr
)
def test_what_does_nothing_or_something_else_is_no_drop_path(module):
    model = dlbridge.load(nn.Sequential(nn.ReLU(), module), inputs=(torch.zeros(2, 3),))
    assert [n.op_type for n in model.graph] == ["Relu"]


def test_a_dropout_that_is_on_at_inference_is_refused():
    class Always(nn.Module):
        def forward(self, x):
            return nn.functional.dropout2d(x, 0.5, training=True)

    with pytest.raises(DlbridgeError, match="dropout that is on at inference"):
        dlbridge.load(Always(), inputs=(torch.zeros(2, 3, 4, 4),))


class Branch(nn.Module):
    def __init__(self, ratio):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout2d(0.3)
        self.path = DropPath(ratio)

    def forward(self, x):
        return x + self.path(hidden_states=self.drop(self.conv(x)))


def test_a_residual_network_keeps_its_layers_its_numbers_and_its_keys():
    torch.manual_seed(0)
    module = nn.Sequential(Branch(0.1), Branch(0.2), nn.Flatten(), nn.AlphaDropout(0.2), nn.Linear(108, 4)).eval()
    x = torch.randn(2, 3, 6, 6)
    model = dlbridge.load(module, inputs=(x,))
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live.eval()(x), module(x))
    assert model.write("pytorch").text.count("class Branch(") == 1

    across = dlbridge.load(model.to_keras())
    assert model.write("keras").text.count("Permute(") == 2  # of the input and for Flatten: none around the dropouts
    own = [described(n) for n in model.graph if n.op_type in extension.TRAINING_ONLY_OPS]
    assert [described(n) for n in across.graph if n.op_type in extension.TRAINING_ONLY_OPS] == own
    np.testing.assert_allclose(across.to_pytorch()(x).detach(), module(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_drop_path_that_is_called_twice_is_one_layer_with_a_mask_for_each_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.drop_path = nn.Linear(4, 4), nn.Linear(4, 4), DropPath(0.1)

        def forward(self, x):
            x = x + self.drop_path(self.first(x))
            return x + self.drop_path(self.second(x))

    model = dlbridge.load(Twice(), inputs=(torch.zeros(2, 4),))
    assert model.write("pytorch").text.count("self.drop_path(") == 2
    assert sum(type(part).__name__ == "DropPath" for part in model.to_pytorch().children()) == 1
    assert sum(isinstance(part, L.Dropout) for part in model.to_keras().layers) == 2


# --- Keras -----------------------------------------------------------------------------------------------------------

LAYERS = {
    "spatial 1d": (lambda: L.SpatialDropout1D(0.3), (4, 5)),
    "spatial 2d": (lambda: L.SpatialDropout2D(0.3), (4, 5, 2)),
    "spatial 3d": (lambda: L.SpatialDropout3D(0.3), (4, 5, 2, 3)),
    "spatial 2d first": (lambda: L.SpatialDropout2D(0.3, data_format="channels_first"), (4, 5, 2)),
    "drop path": (lambda: L.Dropout(0.1, noise_shape=(None, 1, 1)), (4, 5)),
    "noise shape": (lambda: L.Dropout(0.1, noise_shape=(1, None, 1)), (4, 5)),
    "alpha": (lambda: L.AlphaDropout(0.1), (4, 5)),
    "alpha noise shape": (lambda: L.AlphaDropout(0.1, noise_shape=(None, None, 1)), (4, 5)),
    "gaussian": (lambda: L.GaussianDropout(0.2), (4, 5)),
    "noise": (lambda: L.GaussianNoise(0.2), (4, 5)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_of_keras_comes_back(case):
    make, shape = LAYERS[case]
    layer, x = make(), keras.Input(shape)
    model = dlbridge.load(keras.Model(x, layer(x)))
    back = model.to_keras().layers[-1]
    keys = ("rate", "stddev", "noise_shape", "data_format")
    assert type(back) is type(layer)
    assert [back.get_config().get(k) for k in keys] == [layer.get_config().get(k) for k in keys]

    live = model.to_pytorch()
    across = dlbridge.load(live, inputs=(torch.zeros(2, *shape),))
    assert [described(n) for n in across.graph] == [described(n) for n in model.graph]


#: Layer -> arguments without which it does nothing.
AUGMENTATIONS = {
    **{kind: {} for kind in extension.AUGMENTATIONS},
    "AugMix": {"num_chains": 2},
    **{f"Random{kind}": {"factor": 0.2} for kind in ("Brightness", "ColorDegeneration", "Contrast", "Hue")},
    **{f"Random{kind}": {"factor": 0.4} for kind in ("Rotation", "Saturation", "Sharpness", "Invert")},
    "RandomFlip": {"mode": "horizontal", "seed": 3},
    "RandomGrayscale": {"factor": 0.3},
    "RandomPosterization": {"factor": 4},
    "RandomShear": {"x_factor": 0.3},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": (-0.1, 0.2), "fill_mode": "nearest"},
    "RandomZoom": {"height_factor": 0.1, "fill_value": 0.5},
}


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_an_augmentation_of_keras_comes_back(kind):
    layer, x = getattr(L, kind)(**AUGMENTATIONS[kind]), keras.Input((8, 8, 3))
    model = dlbridge.load(keras.Model(x, L.Conv2D(2, 3)(layer(x))))
    (back,) = [part for part in model.to_keras().layers if isinstance(part, type(layer))]
    own = {"name", "seed"}
    found, wanted = ({k: plain(v) for k, v in p.get_config().items() if k not in own} for p in (back, layer))
    assert found == wanted
    assert "Identity()" in model.write("pytorch").text


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("spoilt", [{"kind": "Lambda"}, {"config": "no JSON"}, {"config": '{"a) + b(": 1}'}], ids=str)
def test_an_augmentation_that_is_none_is_refused(spoilt):
    x = keras.Input((8, 8, 3))
    model = dlbridge.load(keras.Model(x, L.RandomFlip()(x)))
    (node,) = model.graph
    for name, text in spoilt.items():
        node.attributes[name] = ir.AttrString(name, text)
    with pytest.raises(DlbridgeError, match="no augmentation of Keras"):
        model.write("keras")


def test_a_noise_shape_of_another_rank_is_refused():
    x = keras.Input((4, 5))
    with pytest.raises(DlbridgeError, match="noise_shape"):
        dlbridge.load(keras.Model(x, L.Dropout(0.1, noise_shape=(4, 1))(x)))


def test_each_step_of_time_has_a_noise_of_its_own():
    x = keras.Input((4, 5))
    model = dlbridge.load(keras.Model(x, L.TimeDistributed(L.Dropout(0.5, noise_shape=(None, 1)))(x)))
    torch.manual_seed(0)
    y = model.to_pytorch().train()(torch.ones(200, 4, 5)).numpy()
    assert 0.4 < (of_groups(y, [2]) == 0).mean() < 0.6
    assert (y.min(1) != y.max(1)).any()


# --- the other forms -------------------------------------------------------------------------------------------------

DESCRIPTION = """
dlbridge: 1
name: noisy
inputs: {image: {dtype: float32, shape: [batch, 3, 8, 8]}}
nodes:
  - {op: GaussianNoise, stddev: 0.1}
  - {name: conv, op: Conv, channels: 4, kernel_shape: [3, 3]}
  - {op: BroadcastDropout, ratio: 0.2, axes: [2, 3]}
  - {op: Flatten}
  - {op: GaussianDropout, ratio: 0.25}
  - {op: AlphaDropout}
  - {op: Linear, features: 2}
outputs: {logits: fc1}
"""
OWN = ["GaussianNoise", "BroadcastDropout", "GaussianDropout", "AlphaDropout"]


@pytest.fixture
def noisy(tmp_path):
    (tmp_path / "noisy.yaml").write_text(DESCRIPTION)
    return dlbridge.load(tmp_path / "noisy.yaml")


def test_a_description_and_a_saved_model_keep_them(noisy, tmp_path):
    noisy.save(tmp_path / "saved")
    again = dlbridge.load(tmp_path / "saved")
    own = [described(n) for n in noisy.graph if n.domain == extension.DOMAIN and n.op_type != "Linear"]
    assert [kind for kind, _, _ in own] == OWN
    assert [described(n) for n in again.graph if n.domain == extension.DOMAIN and n.op_type != "Linear"] == own


def test_the_onnx_file_has_nothing_of_them_and_runs(noisy, tmp_path):
    noisy.write("onnx").save(tmp_path / "noisy.onnx")
    kinds = [n.op_type for n in ir.load(tmp_path / "noisy.onnx").graph]
    assert kinds == ["Conv", "Flatten", "Gemm"]
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(tmp_path / "noisy.onnx").run(None, {"image": x})
    np.testing.assert_allclose(got, noisy.to_pytorch().eval()(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5)


def test_an_axis_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_text(DESCRIPTION.replace("axes: [2, 3]", "axes: [2, 4]"))
    with pytest.raises(DlbridgeError, match=r"the axes \[2, 4\]"):
        dlbridge.load(tmp_path / "bad.yaml")


BODIES = {
    "Dropout": "y = Dropout (x, half)",
    "BatchNormalization": "y = BatchNormalization (x, ones, zeros, zeros, ones)",
    "nothing": "y = Relu (x)",
    "a dropout of none": "y = Dropout (x, none)",
}


@pytest.mark.parametrize("framework", frameworks.trainers())
@pytest.mark.parametrize("body", BODIES)
def test_what_acts_in_training_within_a_branch_is_told(body, framework, recwarn):
    """A branch is a function of the file, in which no layer lives."""
    pytest.importorskip({"pytorch": "torch", "nnx": "flax"}.get(framework, framework))
    text = f"""<ir_version: 11, opset_import: ["": 22]>
    net (float[n, 3] x, bool c) => (float[n, 3] z)
    <float[3] ones = {{1, 1, 1}}, float[3] zeros = {{0, 0, 0}}, float half = {{0.5}}, float none = {{0}}>
    {{
        z = If (c) <then_branch = inside () => (float[n, 3] y) {{ {BODIES[body]} }},
                    else_branch = other () => (float[n, 3] y) {{ y = Neg (x) }}>
    }}"""
    model = dlbridge.load(onnx.parser.parse_model(text))
    model.write(framework)
    told = [str(w.message) for w in recwarn if issubclass(w.category, DlbridgeWarning)]
    lost = [text for text in told if "in the body of a branch or loop, as it acts in training alone" in text]
    assert len(lost) == (body in ("Dropout", "BatchNormalization"))
