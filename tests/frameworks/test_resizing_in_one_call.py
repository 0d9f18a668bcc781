"""A resize of free height and width is one call where the framework has one."""

import pytest
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
    "bilinear": (Resized(scale_factor=2, mode="bilinear"), IMAGE, ("", "jax.image.resize")),
    "by two scales": (Resized(scale_factor=(3, 2), mode="bilinear"), IMAGE, ("", "jax.image.resize")),
    "nearest": (Resized(scale_factor=2), IMAGE, ("UpSampling2D", "jnp.repeat")),
    "to a size": (Resized(size=(32, 7), mode="bilinear"), IMAGE, ("", "jax.image.resize")),
    "to another's size": (Like(), {**IMAGE, "y": "float32[b,3,k,l]"}, ("", "jax.image.resize")),
}


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
            assert word in text and len(text.splitlines()) <= 14
            routes.append(framework)
    assert verify(model, routes=routes, battery="quick", train_steps=None).passed


def test_a_formula_of_another_kind_is_not_taken_for_it():
    module = Resized(scale_factor=2, mode="bilinear", align_corners=True)
    text = dlbridge.load(module.eval(), inputs={"x": "float32[b,3,h,w]"}).write("keras").text
    assert "UpSampling2D" not in text
    module = Resized(scale_factor=2, mode="bilinear")
    text = dlbridge.load(module.eval(), inputs={"x": "float64[b,3,h,w]"}).write("keras").text
    assert "UpSampling2D" not in text
