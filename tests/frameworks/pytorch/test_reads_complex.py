"""Complex numbers inside a model: rotary embeddings as Llama's first code has them, Fourier transforms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge.errors import UnsupportedOpError
from dlbridge.verification import verify


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
        w = w * torch.polar(x.tanh().exp(), y)  # numbers whose squares float32 holds: decision 0150
        return torch.cat([w.abs(), w.angle(), torch.stack([w.real, w.imag]).sum(0)], dim=1)


class Spectrogram(nn.Module):
    """A front end of speech models, and what brings its spectrum back (Griffin & Lim, 1984)."""

    def __init__(self, back=False, **options):
        super().__init__()
        self.register_buffer("window", torch.hann_window(options.get("win_length") or options["n_fft"]))
        self.back, self.options = back, options

    def forward(self, x):
        spectrum = torch.stft(x, window=self.window, return_complex=True, **self.options)
        if not self.back:
            return spectrum.abs(), spectrum.real
        return torch.istft(spectrum * torch.sigmoid(spectrum.abs()), window=self.window, **self.options)


class Padded(nn.Module):
    def forward(self, x):
        z = torch.fft.rfft(x)
        padded = [F.pad(z, (2, 1)), F.pad(z, (-1, 4)), F.pad(z, (1, 2), value=3.0), F.pad(z, (0, 3), mode="circular")]
        padded += [F.pad(z, (1, 2), mode=mode) for mode in ("reflect", "replicate")]
        return torch.view_as_real(torch.stack(padded))


SAMPLES = {"x": "float32[batch,samples]"}
CASES = {
    "stft": (lambda: Spectrogram(n_fft=64, hop_length=16), SAMPLES),
    "stft of a short window": (lambda: Spectrogram(n_fft=64, win_length=40, normalized=True), SAMPLES),
    "stft of both halves": (lambda: Spectrogram(n_fft=32, hop_length=10, center=False, onesided=False), SAMPLES),
    "stft of one signal": (lambda: Spectrogram(n_fft=32), {"x": "float32[300]"}),
    "istft": (lambda: Spectrogram(True, n_fft=64, hop_length=16), SAMPLES),
    "istft of a short window": (lambda: Spectrogram(True, n_fft=64, win_length=48, normalized=True), SAMPLES),
    "istft of one signal": (lambda: Spectrogram(True, n_fft=32), {"x": "float32[320]"}),
    "rotary": (Rotary, {"x": "float32[batch,time,2,8]"}),
    "fourier": (Fourier, {"x": "float32[2,6,8]"}),  # torch 2.13 exports no transform of an unknown batch
    "padded": (Padded, {"x": "float32[batch,3,16]"}),
    "arithmetic": (Arithmetic, {"x": "float32[3,5]", "y": "float32[3,5]"}),
}


@pytest.mark.parametrize("name", CASES)
def test_complex_numbers(name):
    make, inputs = CASES[name]
    torch.manual_seed(0)
    model = dlbridge.load(make(), inputs=inputs)
    named = " ".join(inputs.values())
    sizes = {name: size for name, size in {"time": 7, "samples": 500}.items() if name in named}
    verify(model, routes=["pytorch", "keras", "onnx"], judge="original", sizes=sizes).require()


def test_what_complex_numbers_have_no_rule_for_is_refused():
    class Root(nn.Module):
        def forward(self, x):
            return torch.tan(torch.complex(x, x)).real

    with pytest.raises(UnsupportedOpError, match=r"aten\.tan"):
        dlbridge.load(Root(), inputs={"x": "float32[3]"})


def test_frames_that_overlap_by_no_whole_hops_are_refused():
    with pytest.raises(UnsupportedOpError, match="no whole number of hops"):
        dlbridge.load(Spectrogram(True, n_fft=64, hop_length=20), inputs={"x": "float32[2,640]"})
