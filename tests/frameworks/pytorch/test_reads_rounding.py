"""Remainders and quotients that are rounded down, extremes beside NaN, factors of a size that was said: to the last."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge import frameworks


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


TENTHS = torch.arange(-32, 32).reshape(4, 16) / 10
LARGE = torch.linspace(-1e5, 1e5, 64).reshape(4, 16)
HOLES = torch.where(TENTHS > 1, torch.nan, TENTHS)
CASES = {
    "remainder of tenths": (lambda x: x % 0.1, TENTHS),
    "remainder of large numbers": (lambda x: x % 0.37, LARGE),
    "remainder by a negative number": (lambda x: x % -0.37, LARGE),
    "quotient of tenths": (lambda x: x // 0.1, TENTHS),
    "quotient of a number": (lambda x: 1.0 // x, TENTHS),
    "quotient of large numbers": (lambda x: torch.div(x, 0.37, rounding_mode="floor"), LARGE),
    "larger beside NaN": (lambda x: torch.fmax(x, -x.flip(0)), HOLES),
    "smaller beside NaN": (lambda x: torch.fmin(x, -x.flip(0)), HOLES),
    "larger of integers": (lambda x: torch.fmax(x.int(), -x.int()), TENTHS),
}


@pytest.mark.parametrize("target", ["pytorch", "keras", "onnx"])
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_pytorch(name, target):
    function, x = CASES[name]
    answer = _answer(function, x, target)
    np.testing.assert_array_equal(answer, function(x).numpy())


def _answer(function, x, target):
    model = dlbridge.load(Function(function), inputs={"x": f"float32[{','.join(map(str, ('batch', *x.shape[1:])))}]"})
    framework = frameworks.get(target)
    live = framework.load(framework.write(model))
    return next(iter(framework.run(live, {"x": x.numpy()}).values()))


@pytest.mark.parametrize("target", ["pytorch", "keras", "onnx"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_sizes_of_resized_images_are_those_that_the_code_says(mode, target):
    """15/9 in float32, times 9, is below 15."""

    def resized(x):
        return F.interpolate(x, scale_factor=1.7, mode=mode, recompute_scale_factor=True)

    x = torch.randn(3, 2, 9, 11)
    np.testing.assert_allclose(_answer(resized, x, target), resized(x).numpy(), 1e-5, 1e-5)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)


def test_attention_with_a_mask_of_padding_is_read_for_any_batch():
    """PyTorch makes NaN of what is masked as a whole in one of its ways, 0 in the other: no model means it."""
    model = dlbridge.load(Masked().eval(), inputs={"x": "float32[batch,time,8]", "padding": "bool[batch,time]"})
    assert [str(v.shape) for v in model.inputs] == ["[batch,time,8]", "[batch,time]"]


def test_code_without_a_file_is_not_said_to_be_ours():
    names = {"nn": nn, "torch": torch}
    exec("class M(nn.Module):\n    def forward(self, x):\n        return x.view(2, 3) + torch.zeros(2, 3)\n", names)
    with pytest.raises(dlbridge.DlbridgeError) as raised:
        dlbridge.load(names["M"](), inputs={"x": "float32[batch,3]"})
    assert "exporting.py" not in str(raised.value)
