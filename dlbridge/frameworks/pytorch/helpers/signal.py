"""Helpers of signals; complex numbers are pairs on the last axis."""

import torch


def dft(x, length=None, axis=-2, inverse=False, onesided=False):
    """Discrete Fourier transform along an axis of signals that are real (last axis 1) or complex (last axis 2)."""
    axis = axis % x.dim()
    signal = x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse and onesided:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1)
    y = (torch.fft.ifft if inverse else torch.fft.fft)(signal, length, axis)
    y = y.narrow(axis, 0, y.shape[axis] // 2 + 1) if onesided else y
    return torch.view_as_real(y)


def stft(x, step, window=None, length=None, onesided=True):
    """Fourier transforms of frames of signals (batch, time, 1 or 2)."""
    length = len(window) if length is None else length
    frames = x.unfold(1, length, step).transpose(-1, -2)
    if window is not None:
        left = (length - len(window)) // 2
        frames = frames * torch.nn.functional.pad(window, (left, length - len(window) - left)).unsqueeze(-1)
    return dft(frames, axis=2, onesided=onesided)
