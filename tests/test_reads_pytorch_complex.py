"""Complex numbers inside a model: rotary embeddings as Llama's first code has them, Fourier transforms."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import dlbridge  # noqa: E402
from dlbridge.errors import UnsupportedOpError  # noqa: E402
from dlbridge.verification import verify  # noqa: E402


class Rotary(nn.Module):
    """Su et al., RoFormer, 2021, in the form of Llama's reference code."""

    def __init__(self, size=8, length=16):
        super().__init__()
        speeds = 1.0 / 10000 ** (torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(length).float(), speeds)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, x):
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turned = pairs * self.turns[: x.shape[1]].view(1, x.shape[1], 1, -1)
        return torch.view_as_real(turned).flatten(3).type_as(x)


class Fourier(nn.Module):
    """Lee-Thorp et al., FNet, 2021; Rao et al., GFNet, 2021."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(6, 5, 2))

    def forward(self, x):
        mixed = torch.fft.fftn(x, dim=(1, 2)).real
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(self.filter)
        spectrum = torch.fft.ifft(spectrum, dim=1, norm="forward")
        return (
            mixed + torch.fft.irfft(spectrum, n=8, dim=2, norm="ortho") + torch.fft.irfft(spectrum, n=9, dim=2)[..., 1:]
        )


class Arithmetic(nn.Module):
    def forward(self, x, y):
        z = torch.complex(x, y)
        w = torch.exp(z.conj() * 0.1) / (z + 2) - z.transpose(0, 1).reshape(z.shape[1], -1).T - x
        w = w * torch.polar(x.exp(), y)
        return torch.cat([w.abs(), w.angle(), torch.stack([w.real, w.imag]).sum(0)], dim=1)


CASES = {
    "rotary": (Rotary, {"x": "float32[batch,time,2,8]"}),
    "fourier": (Fourier, {"x": "float32[2,6,8]"}),  # torch 2.13 exports no transform of an unknown batch
    "arithmetic": (Arithmetic, {"x": "float32[3,5]", "y": "float32[3,5]"}),
}


@pytest.mark.parametrize("name", CASES)
def test_complex_numbers(name):
    make, inputs = CASES[name]
    torch.manual_seed(0)
    model = dlbridge.load(make(), inputs=inputs)
    verify(model, routes=["pytorch", "keras", "onnx"], judge="original", sizes={"time": 7}).require()


def test_what_complex_numbers_have_no_rule_for_is_refused():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(torch.complex(x, x)).real

    with pytest.raises(UnsupportedOpError, match=r"aten\.sqrt"):
        dlbridge.load(Root(), inputs={"x": "float32[3]"})
