"""A resize of free height and width is one call where the framework has one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge.verification import verify

pytestmark = pytest.mark.filterwarnings("ignore")


class Resized(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return F.interpolate(x, **self.options)


class Like(nn.Module):
    def forward(self, x, y):
        return F.interpolate(x, size=y.shape[-2:], mode="bilinear")


IMAGE = {"x": "float32[b,3,h,w]"}
#: name -> (module, inputs, what each framework says).
CASES = {
    "bilinear": (Resized(scale_factor=2, mode="bilinear"), IMAGE, ("scale_and_translate", "jax.image.resize")),
    "by two scales": (
        Resized(scale_factor=(3, 2), mode="bilinear"),
        IMAGE,
        ("scale_and_translate", "jax.image.resize"),
    ),
    "by fractions": (Resized(scale_factor=(0.5, 1.5), mode="bilinear"), IMAGE, ("scale_and_translate", "")),
    "filtered": (Resized(scale_factor=0.5, mode="bilinear", antialias=True), IMAGE, ("scale_and_translate", "")),
    "nearest": (Resized(scale_factor=2), IMAGE, ("UpSampling2D", "jnp.repeat")),
    "to a size": (Resized(size=(32, 7), mode="bilinear"), IMAGE, ("ops.image.resize", "jax.image.resize")),
    "to another's size": (Like(), {**IMAGE, "y": "float32[b,3,k,l]"}, ("scale_and_translate", "jax.image.resize")),
}
#: A layer where sizes are read at run time has more lines than a function that joins layers.
LINES = 28


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_call(name):
    module, inputs, words = CASES[name]
    model = dlbridge.load(module.eval(), inputs=inputs)
    assert "F.interpolate" in model.write("pytorch").text
    routes = ["pytorch"]
    for framework, package, word in zip(("keras", "nnx"), ("keras", "flax"), words, strict=True):
        try:
            __import__(package)
        except ModuleNotFoundError:
            continue
        text = model.write(framework).text
        if word:
            assert word in text and len(text.splitlines()) <= LINES
            routes.append(framework)
    assert verify(model, routes=routes, battery="quick", train_steps=None).passed


def test_a_formula_of_another_kind_is_not_taken_for_it():
    module = Resized(scale_factor=2, mode="bilinear", align_corners=True)
    text = dlbridge.load(module.eval(), inputs={"x": "float32[b,3,h,w]"}).write("keras").text
    assert "scale_and_translate" not in text
    module = Resized(scale_factor=2, mode="bilinear")
    text = dlbridge.load(module.eval(), inputs={"x": "float64[b,3,h,w]"}).write("keras").text
    assert "scale_and_translate" not in text


def test_keras_compiles_it():
    keras = pytest.importorskip("keras")
    import numpy as np

    network = dlbridge.load(Resized(scale_factor=2, mode="bilinear").eval(), inputs=IMAGE).to_keras()
    network.compile(jit_compile=True)
    x = np.random.default_rng(0).random((2, 3, 5, 4), np.float32)
    expected = keras.ops.image.resize(x, (10, 8), data_format="channels_first")
    np.testing.assert_allclose(network.predict(x, verbose=0), expected, atol=1e-6)


class Scaled(nn.Module):
    """What is scaled is resized in a module of its own, which is a ``Layer`` subclass in Keras."""

    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 3, padding=1)

        def forward(self, x, like):
            return F.interpolate(self.conv(x), size=like.shape[-2:], mode="bilinear")

    def __init__(self, scale):
        super().__init__()
        self.conv, self.up, self.scale = nn.Conv2d(3, 4, 3, stride=2, padding=1), self.Up(), scale

    def forward(self, x):
        return self.up(self.scale(self.conv(x)), x)


@pytest.mark.parametrize(
    "scale",
    [
        lambda x: x * 0.3,
        lambda x: -(x * 0.3),
        lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1),
        lambda x: x * torch.sigmoid(1.7 * x),
    ],
    ids=["a number", "and an op", "numbers", "within an op"],
)
def test_what_keras_takes_for_sparse_is_none_in_a_layer(scale):
    model = dlbridge.load(Scaled(scale).eval(), inputs=IMAGE)
    assert verify(model, routes=["keras"], battery="quick", train_steps=None).passed
