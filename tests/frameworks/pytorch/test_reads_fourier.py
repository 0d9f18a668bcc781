"""Fourier transforms of any length and products of complex tensors (Li et al., Fourier Neural Operator, 2021)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))

    def forward(self, x):
        y = self.function(x, self.weight)
        return torch.view_as_real(y) if y.is_complex() else y


class Spectral(nn.Module):
    """The layer of a Fourier Neural Operator: some frequencies are mixed, all others are zero."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3, dtype=torch.cfloat) * 0.1)

    def forward(self, x):
        spectrum = torch.fft.rfft2(x)
        out = torch.zeros(x.shape[0], 4, x.shape[-2], x.shape[-1] // 2 + 1, dtype=torch.cfloat)
        out[:, :, :3, :3] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :3, :3], self.weight)
        out[:, :, -3:, :3] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -3:, :3], self.weight)
        return torch.fft.irfft2(out, s=(x.shape[-2], x.shape[-1]))


def _complex(x):
    return torch.complex(x, x * 2 - 1)


LINES, IMAGES = ("float32[batch,10]", (3, 10)), ("float32[batch,4,8,8]", (3, 4, 8, 8))
SQUARE = ("float32[batch,4]", (3, 4))
FUNCTIONS = {
    "rfft, longer": (lambda x, w: torch.fft.rfft(x, n=20), LINES),
    "rfft, shorter": (lambda x, w: torch.fft.rfft(x, n=7), LINES),
    "fft of real numbers, longer": (lambda x, w: torch.fft.fft(x, n=16), LINES),
    "fft along another axis": (
        lambda x, w: torch.fft.fft(_complex(x), n=5, dim=0, norm="ortho"),
        ("float32[3,10]", (3, 10)),
    ),
    "ifft, shorter": (lambda x, w: torch.fft.ifft(_complex(x), n=6), LINES),
    "irfft, longer": (lambda x, w: torch.fft.irfft(_complex(x), n=31), LINES),
    "irfft, shorter": (lambda x, w: torch.fft.irfft(_complex(x), n=8, norm="forward"), LINES),
    "rfft2 of a part": (lambda x, w: torch.fft.rfft2(x, s=(6, 10), norm="forward"), IMAGES),
    "irfft2": (lambda x, w: torch.fft.irfft2(_complex(x), s=(10, 9), norm="ortho"), IMAGES),
    "fftn of two axes": (lambda x, w: torch.fft.fftn(x, s=(9, 4), dim=(1, 3)), IMAGES),
    "there and back": (lambda x, w: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1]), ("float32[batch,t]", (3, 14))),
    "there and back, orthogonal": (
        lambda x, w: torch.fft.irfft(torch.fft.rfft(x, norm="ortho") * 2, n=x.shape[-1], norm="ortho"),
        ("float32[batch,t]", (3, 13)),
    ),
    "long convolution": (
        lambda x, w: torch.fft.irfft(torch.fft.rfft(x, n=2 * x.shape[-1]) ** 2, n=2 * x.shape[-1])[..., : x.shape[-1]],
        ("float32[batch,t]", (3, 12)),
    ),
    "matrix product": (lambda x, w: _complex(x) @ w, SQUARE),
    "product with a real matrix": (
        lambda x, w: torch.matmul(_complex(x), w.real.to(w.dtype)) + torch.matmul(x.to(w.dtype), w),
        SQUARE,
    ),
    "linear": (lambda x, w: nn.functional.linear(_complex(x), w, w[0]), SQUARE),
    "einsum of three": (lambda x, w: torch.einsum("bi,ij,jk->bk", _complex(x), w, w.conj()), ("float32[3,4]", (3, 4))),
    "arithmetic": (
        lambda x, w: _complex(x).pow(2) + torch.log(_complex(x)) - _complex(x).sqrt() + 1 / _complex(x),
        SQUARE,
    ),
    "chosen": (lambda x, w: torch.where(x > 0, _complex(x), torch.zeros_like(_complex(x))), SQUARE),
}


def _agree(net, spec, shape):
    model = dlbridge.load(net, inputs={"x": spec})
    x = torch.randn(shape)
    right = net(x).detach().numpy()
    for target in ("pytorch", "keras", "onnx"):
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        (answer,) = framework.run(live, {"x": x.numpy()}).values()
        np.testing.assert_allclose(answer, right, 1e-4, 1e-4, err_msg=target)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_complex_function(name):
    torch.manual_seed(0)
    function, (spec, shape) = FUNCTIONS[name]
    _agree(Call(function).eval(), spec, shape)


@pytest.mark.parametrize("width", ["8", "width"])
def test_fourier_neural_operator(width):
    torch.manual_seed(0)
    _agree(Spectral().eval(), f"float32[batch,4,8,{width}]", (3, 4, 8, 8))
