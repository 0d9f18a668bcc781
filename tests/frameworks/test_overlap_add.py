"""Overlapping windows that are added up and squeezed, as the inverse of a spectrogram has them, at a free length."""

import pytest
import torch
from torch import nn

pytest.importorskip("keras")

import dlbridge


class Envelope(nn.Module):
    """What a window adds up to, over as many steps as the input has; divides the input by it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(8) + 0.5)

    def forward(self, x):
        steps = x.shape[2]
        size, options = (1, 4 * (steps - 1) + 8), {"kernel_size": (1, 8), "stride": (1, 4)}
        signal = nn.functional.fold(x * self.window[None, :, None], size, **options)[:, 0, 0, 2:-2]
        squares = self.window.square().expand(1, steps, -1).transpose(1, 2)
        return signal / nn.functional.fold(squares, size, **options).squeeze()[2:-2]


def test_an_envelope_of_one_row_is_squeezed():
    model = dlbridge.load(Envelope(), inputs={"x": "float32[batch,8,steps]"})
    assert dlbridge.convert(model, "keras").text
