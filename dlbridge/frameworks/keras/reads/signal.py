"""``keras.ops`` of signals: Fourier transforms, with complex numbers as Keras' pairs (real, imaginary)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.reshaping import pad

Pair = tuple[ir.Value, ir.Value]

#: Name of a window -> a, b of a - b cos(t).
_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}


def _joined(site: CallSite, x: Any) -> ir.Value:
    """Stack (real, imaginary) along a further last axis, as in ONNX."""
    real, imaginary = x
    return site.op("Concat", *(site.unsqueeze(v, -1) for v in site.promoted(real, imaginary)), axis=-1)


def _parts(site: CallSite, x: ir.Value) -> Pair:
    return site.op("Gather", x, 0, axis=-1), site.op("Gather", x, 1, axis=-1)


def _transform(site: CallSite, x: ir.Value, axis: int, **options: Any) -> ir.Value:
    """The transform along an axis counted from the end, not counting the axis of (real, imaginary)."""
    return site.op("DFT", x, None, site.rank(x) - 1 + axis, **options)


@operation("FFT")
def fft(site: CallSite, x: Any) -> Pair:
    return _parts(site, _transform(site, _joined(site, x), -1))


@operation("FFT2", "IFFT2")
def fft2(site: CallSite, x: Any) -> Pair:
    inverse = 1 if site.operation == "IFFT2" else None
    y = _transform(site, _joined(site, x), -1, inverse=inverse)
    return _parts(site, _transform(site, y, -2, inverse=inverse))


@operation("RFFT")
def rfft(site: CallSite, x: Any) -> Pair:
    x, length = site.tensor(x), site.source.fft_length
    return _real_transform(site, x if length is None else _fitted(site, x, -1, int(length)))


def _real_transform(site: CallSite, x: ir.Value) -> Pair:
    return _parts(site, _transform(site, site.unsqueeze(x, -1), -1, onesided=1))


def _fitted(site: CallSite, x: ir.Value, axis: int, length: int) -> ir.Value:
    """Cut x, or pad it with zeros, to a length along an axis."""
    axis = site.axis(axis, site.rank(x))
    size = site.shape(x)[axis]
    if size == length:
        return x
    if not isinstance(size, int) or size < length:
        missing = length if not isinstance(size, int) else length - size
        x = pad(site, x, [axis], [(0, missing)])
    return x if isinstance(size, int) and size < length else site.slice(x, axis, 0, length)


@operation("IRFFT")
def irfft(site: CallSite, x: Any) -> ir.Value:
    length, bins = site.source.fft_length, site.shape(x[0])[-1]
    if length is None:
        site.require([bins], "an inverse transform of a size that is not known")
    return _inverse_real(site, _joined(site, x), 2 * (bins - 1) if length is None else int(length))


def _inverse_real(site: CallSite, x: ir.Value, length: int) -> ir.Value:
    """Complete a spectrum: its second half is the conjugate of the first, reversed."""
    half, axis = length // 2 + 1, site.rank(x) - 2
    x = _fitted(site, x, axis, half)
    if length > half:
        mirror = site.op("Slice", x, [length - half], [0], [axis], [-1])
        x = site.op("Concat", x, mirror * np.array([1, -1], x.dtype.numpy()), axis=axis)
    return site.op("Gather", _transform(site, x, -1, inverse=1), 0, axis=-1)


@operation("ExtractSequences")
def extract_sequences(site: CallSite, x: Any) -> ir.Value:
    return frames(site, site.tensor(x), int(site.source.sequence_length), int(site.source.sequence_stride))


def frames(site: CallSite, x: ir.Value, length: int, stride: int, axis: int = -1, dilation: int = 1) -> ir.Value:
    """An axis as two: windows, each starting ``stride`` after the one before, and the places in a window."""
    end = site.squeeze(site.size(x, site.axis(axis, site.rank(x))), 0) - dilation * (length - 1)
    places = site.unsqueeze(site.op("Range", 0, end, stride), 1) + dilation * np.arange(length, dtype=np.int64)
    return site.op("Gather", x, places, axis=axis)


def _window(site: CallSite, dtype: ir.DataType) -> np.ndarray | None:
    """The window of a short transform, with zeros around it up to the length of the transform."""
    kind = site.source
    length, whole = int(kind.sequence_length), int(kind.fft_length)
    if length > whole:
        site.refuse("sequences longer than the transform")
    if kind.window is None:
        return None
    if isinstance(kind.window, keras.KerasTensor):
        site.refuse("a window that is computed")
    if isinstance(kind.window, str):
        a, b = _WINDOWS[kind.window]
        # TensorFlow's windows of an odd length end where they begin, whether they are asked to be periodic or not
        closed = length % 2 and keras.backend.backend() == "tensorflow"
        steps = max(1, length - 1 if closed else length)
        values = a - b * np.cos(2 * np.pi * np.arange(length) / steps) if length > 1 else np.ones(1)
    else:
        values = np.asarray(keras.ops.convert_to_numpy(kind.window), np.float64)
    left = (whole - length) // 2
    return np.pad(values, (left, whole - length - left)).astype(dtype.numpy())


@operation("STFT")
def stft(site: CallSite, x: Any) -> Pair:
    kind, x = site.source, site.tensor(x)
    length = int(kind.fft_length)
    if kind.center and length // 2:
        x = pad(site, x, [site.rank(x) - 1], [(length // 2, length // 2)], mode="reflect")
    window, pieces = _window(site, x.dtype), frames(site, x, length, int(kind.sequence_stride))
    return _real_transform(site, pieces if window is None else pieces * window)


@operation("ISTFT")
def istft(site: CallSite, x: Any) -> ir.Value:
    """The frames added where they overlap, by a window that makes up for that of ``stft`` (Griffin and Lim, 1984)."""
    kind = site.source
    whole, stride = int(kind.fft_length), int(kind.sequence_stride)
    pieces = _inverse_real(site, _joined(site, x), whole)
    window = _window(site, pieces.dtype)
    if window is not None:
        overlaps = -(-whole // stride)
        total = np.pad(np.square(window), (0, overlaps * stride - whole)).reshape(overlaps, stride).sum(0)
        total = np.tile(total, overlaps)[:whole]
        pieces = pieces * np.where(total == 0, 0, window / np.where(total == 0, 1, total))
    y = _overlapped(site, pieces, whole, stride)
    start = whole // 2 if kind.center else 0
    if kind.length is not None:
        end = start + int(kind.length)
    elif kind.center:
        end = -(whole // 2)
    else:
        end = None
    return site.slice(y, site.rank(y) - 1, start, end) if start or end is not None else y


def _overlapped(site: CallSite, pieces: ir.Value, length: int, stride: int) -> ir.Value:
    """Overlap-add of pieces (..., count, length), each starting ``stride`` after the one before."""
    rank = site.rank(pieces)
    moved = site.transpose(pieces, [rank - 2, rank - 1, *range(rank - 2)])
    count = site.size(pieces, rank - 2)
    starts = site.op("Range", 0, site.squeeze(count * stride, 0), stride)
    places = site.unsqueeze(site.unsqueeze(starts, 1) + np.arange(length, dtype=np.int64), 2)
    total = count * stride + (length - stride)
    if rank > 2:
        total = site.op("Concat", total, site.op("Shape", pieces, start=0, end=rank - 2), axis=0)
    base = site.op("Expand", site.build.value(0.0, pieces.dtype), total)
    y = site.op("ScatterND", base, places, moved, reduction="add")
    return site.transpose(y, [*range(1, rank - 1), 0])
