"""Signals; complex numbers are pairs on the last axis."""

import math

from dlbridge.source.arrays import ops


def dft(x, length=None, axis=-2, inverse=False, onesided=False):
    """Discrete Fourier transform along an axis of signals that are real (last axis 1) or complex (last axis 2)."""
    axis, dtype = axis % len(x.shape), x.dtype
    x = ops.cast(x, "float64")
    real = ops.moveaxis(x[..., 0], axis, -1)
    imaginary = ops.moveaxis(x[..., 1], axis, -1) if x.shape[-1] == 2 else ops.zeros_like(real)
    if inverse and onesided:
        have = real.shape[-1]
        length = 2 * (have - 1) if length is None else length
        real, imaginary = fit_length(real, length // 2 + 1), fit_length(imaginary, length // 2 + 1)
        rest = length - real.shape[-1]
        real = ops.concatenate([real, ops.flip(real[..., 1 : 1 + rest], axis=-1)], axis=-1)
        imaginary = ops.concatenate([imaginary, -ops.flip(imaginary[..., 1 : 1 + rest], axis=-1)], axis=-1)
    elif length is not None:
        real, imaginary = fit_length(real, length), fit_length(imaginary, length)
    size = ops.shape(real)[-1]
    real, imaginary = ops.fft((real, -imaginary if inverse else imaginary))
    if inverse:
        count = ops.cast(size, "float64")
        real, imaginary = real / count, -imaginary / count
    if onesided and not inverse:
        real, imaginary = real[..., : size // 2 + 1], imaginary[..., : size // 2 + 1]
    parts = [real] if inverse and onesided else [real, imaginary]
    return ops.cast(ops.stack([ops.moveaxis(part, -1, axis) for part in parts], axis=-1), dtype)


def fit_length(x, length):
    """x cut, or filled with zeros, to a length of its last axis."""
    if x.shape[-1] >= length:
        return x[..., :length]
    return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, length - x.shape[-1])])


def stft(x, time, step, window=None, length=None, onesided=True):
    """Fourier transforms of frames of signals (batch, time, 1 or 2)."""
    length = window.shape[0] if length is None else length
    starts = ops.arange(0, time - length + 1, step, dtype="int32")
    frames = ops.take(x, ops.expand_dims(starts, 1) + ops.arange(length, dtype="int32"), axis=1)
    if window is not None:
        left = (length - window.shape[0]) // 2
        window = ops.pad(window, [(left, length - window.shape[0] - left)])
        frames = frames * ops.expand_dims(window, -1)
    return dft(frames, axis=2, onesided=onesided)


def cosine_window(size, weights, periodic, dtype):
    """A sum of cosines over a window: ``weights[0] - weights[1] cos(t) + weights[2] cos(2 t)``."""
    steps = size if periodic else max(size - 1, 1)
    signs = [weight * (-1) ** i for i, weight in enumerate(weights)]
    values = [sum(s * math.cos(2 * math.pi * i * t / steps) for i, s in enumerate(signs)) for t in range(size)]
    return ops.array(values, dtype=dtype)


def mel_weight_matrix(bins, dft_length, sample_rate, low, high, dtype):
    """The matrix (spectrum, bins) that turns a spectrum into bands of equal width on the mel scale."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (low, high))
    edges = [700 * (10 ** ((low + i * (high - low) / (bins + 2)) / 2595) - 1) for i in range(bins + 2)]
    edges = [int((dft_length + 1) * f // sample_rate) for f in edges]
    matrix = [[0.0] * bins for _ in range(dft_length // 2 + 1)]
    for i, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for row in range(left, center + 1):
            matrix[row][i] = 1.0 if left == center else (row - left) / (center - left)
        for row in range(center, right):
            matrix[row][i] = (right - row) / (right - center)
    return ops.array(matrix, dtype=dtype)
