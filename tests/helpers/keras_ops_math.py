"""Cases of ``keras.ops`` for signals, and of its mathematics that is more than one op: name -> (function, inputs)."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

F, INT = "float32", "int32"
X = ((3, 4), F)
N = ((3, 4), INT)
SIGNAL = ((40,), F)

#: name (the function's name first) -> (function, inputs), as in test_reads_keras_ops.py
CASES: dict[str, tuple] = {
    "fft": (lambda x, y: ops.fft((x, y)), X, X),
    "fft of an odd length": (lambda x, y: ops.fft((x, y)), ((7,), F), ((7,), F)),
    "fft2": (lambda x, y: ops.fft2((x, y)), ((5, 6), F), ((5, 6), F)),
    "ifft2": (lambda x, y: ops.ifft2((x, y)), ((5, 6), F), ((5, 6), F)),
    "ifft2 of more axes": (lambda x, y: ops.ifft2(ops.fft2((x, y))), ((2, 3, 4), F), ((2, 3, 4), F)),
    "rfft": (ops.rfft, X),
    "rfft of an odd length": (ops.rfft, ((7,), F)),
    "rfft cut": (lambda x: ops.rfft(x, 3), X),
    "rfft filled": (lambda x: ops.rfft(x, 9), X),
    "irfft": (lambda x, y: ops.irfft((x, y)), X, X),
    "irfft of an odd length": (lambda x, y: ops.irfft((x, y), 5), X, X),
    "irfft cut": (lambda x, y: ops.irfft((x, y), 4), X, X),
    "irfft filled": (lambda x, y: ops.irfft((x, y), 9), X, X),
    "irfft of rfft": (lambda x: ops.irfft(ops.rfft(x, 7), 7), ((7,), F)),
    "stft": (lambda x: ops.stft(x, 8, 4, 8), SIGNAL),
    "stft of a wider transform": (lambda x: ops.stft(x, 7, 3, 10, window="hamming"), SIGNAL),
    "stft without a center": (lambda x: ops.stft(x, 6, 4, 9, center=False), ((2, 41), F)),
    "stft without a window": (lambda x: ops.stft(x, 8, 5, 8, window=None), SIGNAL),
    "stft with a window": (lambda x: ops.stft(x, 6, 4, 8, window=np.linspace(0.1, 1, 6).astype(F)), SIGNAL),
    "istft": (lambda x: ops.istft(ops.stft(x, 8, 4, 8), 8, 4, 8), SIGNAL),
    "istft of any spectrum": (lambda x, y: ops.istft((x, y), 6, 4, 8, window="hamming"), ((9, 5), F), ((9, 5), F)),
    "istft of a length": (lambda x, y: ops.istft((x, y), 7, 3, 9, length=20), ((9, 5), F), ((9, 5), F)),
    "istft without a center": (lambda x, y: ops.istft((x, y), 8, 4, 8, center=False), ((2, 9, 5), F), ((2, 9, 5), F)),
    "istft without a window": (lambda x, y: ops.istft((x, y), 8, 4, 8, window=None), ((9, 5), F), ((9, 5), F)),
    "istft with gaps": (lambda x, y: ops.istft((x, y), 4, 6, 6, center=False), ((9, 4), F), ((9, 4), F)),
    "stft of an unknown length": (lambda x: ops.stft(ops.transpose(x), 3, 1, 3), ((4,), F)),
    "istft of an unknown count": (lambda x, y: ops.istft((x, y), 6, 3, 8), ((5,), F), ((5,), F)),
    "extract_sequences of an unknown length": (lambda x: ops.extract_sequences(ops.transpose(x), 2, 1), ((4,), F)),
    "extract_sequences": (lambda x: ops.extract_sequences(x, 6, 4), SIGNAL),
    "extract_sequences of integers": (lambda x: ops.extract_sequences(x, 2, 2), N),
}


class Own(keras.layers.Layer):
    """A layer that does what a function does: for what Keras can run, but not where a functional model records it."""

    def __init__(self, function):
        super().__init__(dtype="float32", autocast=False)
        self.function = function

    def call(self, x):
        return self.function(x)


def nanless(x):
    """100 where there is no number."""
    return ops.where(ops.isnan(x), 100.0, x)


def with_nan(x):
    """x with no number where it is below zero, and nowhere one in its first row."""
    row = np.array([[True], [False], [False]])
    return ops.where(ops.logical_or(x < 0, row), np.float32(np.nan), x)


ROW = ((), F)
COUNTS = ((), INT)
SQUARE = ((4, 4), F)
CASES |= {
    "diff": (ops.diff, X),
    "diff of second order": (lambda x: ops.diff(x, n=2, axis=1), X),
    "diff of integers": (lambda x: ops.diff(x, axis=-2), N),
    "diff of truth values": (lambda x: ops.diff(x > 0), X),
    "diff of order zero": (lambda x: ops.diff(x, n=0), X),
    "angle": (ops.angle, X),
    "angle of integers": (lambda x: ops.angle(x - 2), N),
    "imag": (ops.imag, X),
    "linspace between tensors": (lambda x, y: ops.linspace(x, y, 5), X, X),
    "linspace along an axis": (lambda x: ops.linspace(x, 2.0, 4, axis=-1), X),
    "linspace without its end": (
        lambda x, y: ops.linspace(x, ops.max(y, axis=-1, keepdims=True), 6, False, axis=1),
        X,
        X,
    ),
    "linspace of one": (lambda x: ops.linspace(0, x, 1), X),
    "linspace of integers": (lambda x, y: ops.linspace(x, y, 5, axis=1), N, N),
    "logspace": (lambda x, y: ops.logspace(x, y, 5, axis=1), X, X),
    "logspace to a base": (lambda x: ops.logspace(0.0, x, 4, endpoint=False, base=2, axis=-1), X),
    "geomspace": (lambda x, y: ops.geomspace(-x, -y, 5), ((3, 4), "positive"), ((3, 4), "positive")),
    "geomspace from a number": (lambda x: ops.geomspace(0.5, x, 4, False, axis=-1), ((3, 4), "positive")),
    "trapezoid": (ops.trapezoid, X),
    "trapezoid of a distance": (lambda x: ops.trapezoid(x, dx=0.5, axis=1), X),
    "trapezoid at places": (lambda x: ops.trapezoid(x, x=np.array([0.0, 1.0, 3.0, 3.5], F)), X),
    "trapezoid of integers": (ops.trapezoid, N),
    "vander": (lambda x: ops.vander(x, 4), ROW),
    "vander increasing": (lambda x: ops.vander(ops.sum(x, axis=(0, 1)), increasing=True), X),
    "vander of integers": (lambda x: ops.vander(x, 3), COUNTS),
    "kron": (ops.kron, ((4,), F), ((2,), F)),
    "kron of integers": (lambda x: ops.kron(x, np.array([[[1, 2], [3, 4]]], INT)), N),
    "corrcoef": (ops.corrcoef, ((6,), F)),
    "corrcoef of integers": (ops.corrcoef, ((6,), INT)),
    "correlate": (lambda x: ops.correlate(ops.sum(x, (0, 1)), np.array([1.0, 2.0, -1.0], F)), X),
    "correlate to the same size": (lambda x: ops.correlate(ops.sum(x, (0, 1)), np.array([1.0, 2.0], F), "same"), X),
    "correlate in full": (lambda x, y: ops.correlate(ops.sum(x, (0, 1)), ops.sum(y, (0, 2)), "full"), X, X),
    "correlate of integers": (lambda x: ops.correlate(ops.sum(x, (0, 1)), np.array([1, 2, 3], INT), "full"), N),
    "unravel_index": (lambda x: ops.unravel_index(x, (2, 3)), COUNTS),
    "unravel_index of negative ones": (lambda x: ops.unravel_index(x - 4, (2, 3)), COUNTS),
    "nonzero": (ops.nonzero, N),
    "nonzero of truth values": (lambda x: ops.nonzero(x > 0), X),
    "unique": (ops.unique, N),
    "unique of floats": (lambda x: ops.unique(ops.round(x), return_inverse=True, return_counts=True), X),
    "unique in order": (lambda x: ops.unique(x, sorted=False, return_index=True, return_counts=True), N),
    "unique rows": (lambda x: ops.unique(x, axis=0, return_index=True, return_inverse=True), ((1,), INT)),
    "unique slices": (lambda x: ops.unique(x % 2, axis=2, return_inverse=True), ((2, 6), INT)),
    "unique of a size": (lambda x: ops.unique(x, size=7, fill_value=-1, return_counts=True), N),
    "unique of a smaller size": (lambda x: ops.unique(x, size=2), N),
    "allclose": (lambda x: ops.allclose(x, x + 1e-7, rtol=1e-4), X),
    "allclose where it is not": (ops.allclose, X, X),
    "allclose of integers": (lambda x: ops.allclose(x + 1000000, x + 1000001), N),
    "allclose without a number": (lambda x: ops.allclose(with_nan(x), with_nan(x), equal_nan=True), X),
    "allclose of what is infinite": (lambda x: ops.allclose(x, ops.full_like(x, np.inf)), X),
    "isclose of integers": (lambda x: ops.isclose(x + 1000000, 1000001), N),
    "nanargmax": (lambda x: ops.nanargmax(with_nan(x), axis=-1), X),
    "nanargmax of all": (lambda x: ops.nanargmax(with_nan(x)), X),
    "nanargmin": (lambda x: ops.nanargmin(with_nan(x), axis=1, keepdims=True), X),
    "nanargmin of integers": (lambda x: ops.nanargmin(x, axis=1), N),
    "nancumprod": (lambda x: ops.nancumprod(with_nan(x), axis=1), X),
    "nancumprod of all": (lambda x: ops.nancumprod(with_nan(x)), X),
    "nanmedian": (lambda x: nanless(ops.nanmedian(with_nan(x), axis=-1)), X),
    "nanmedian of all": (lambda x: ops.nanmedian(with_nan(x)), X),
    "nanmedian kept": (lambda x: nanless(ops.nanmedian(with_nan(x), axis=(0, 2), keepdims=True)), X),
    "nanquantile": (lambda x: nanless(ops.nanquantile(with_nan(x), 0.3, axis=2)), X),
    "nanquantile of several": (
        lambda x: ops.nanquantile(ops.where(x < -1, np.float32(np.nan), x), [0.2, 0.5, 1.0], axis=(1, 2)),
        X,
    ),
    "nanpercentile": (lambda x: ops.nanpercentile(with_nan(x), 40, axis=(1, 2), keepdims=True), X),
    "histogram": (lambda x: Own(lambda v: ops.histogram(ops.reshape(v, (-1,)), bins=5))(x), X),
    "histogram of a range": (
        lambda x: Own(lambda v: ops.histogram(ops.reshape(v, (-1,)), bins=4, range=(-1.0, 1.0)))(x),
        X,
    ),
    "histogram of integers": (lambda x: Own(lambda v: ops.histogram(v, bins=3))(x), COUNTS),
    "histogram of one bin": (lambda x: Own(lambda v: ops.histogram(v, bins=1, range=(0, 1)))(x), ROW),
    "ldexp": (ops.ldexp, X, N),
    "ldexp of integers": (lambda x: ops.ldexp(x, x - 3), N),
    "ldexp of nothing": (lambda x: ops.ldexp(x * 0.0, 200), X),
    "bincount": (ops.bincount, COUNTS),
    "bincount of rows": (lambda x: ops.bincount(x, minlength=9), ((6,), INT)),
    "bincount of weights": (
        lambda x: ops.bincount(ops.max(x, axis=(0, 2)), weights=np.array([0.5, 1.0, 2.0], F)),
        N,
    ),
    "segment_sum by computed ids": (lambda x, i: ops.segment_sum(x, i, num_segments=6), X, COUNTS),
    "segment_sum of an unknown number": (lambda x: ops.segment_sum(ops.sum(x, axis=0), np.array([0, 1, 1], INT)), X),
    "segment_max by computed ids": (lambda x, i: ops.segment_max(x, i - 2, num_segments=4), X, COUNTS),
    "segment_max of integers": (lambda x, i: ops.segment_max(x, i), N, COUNTS),
    "segment_min by computed ids": (lambda x, i: ops.segment_min(x, i - 1, num_segments=4), ROW, COUNTS),
    "segment_prod by computed ids": (lambda x, i: ops.segment_prod(x, i, num_segments=6), X, COUNTS),
    "logdet": (lambda x: ops.logdet(ops.matmul(x, ops.transpose(x, (0, 2, 1))) + ops.eye(4)), SQUARE),
    "logdet of a large matrix": (
        lambda x: ops.logdet(1e3 * (ops.matmul(x, ops.transpose(x, (0, 2, 1))) + ops.eye(30))),
        ((30, 30), F),
    ),
    "slogdet": (ops.slogdet, SQUARE),
    "tri": (lambda x: ops.matmul(x, ops.tri(4)), X),
    "bartlett": (lambda x: x * ops.bartlett(4), X),
    "blackman": (lambda x: x * ops.blackman(4), X),
    "hamming": (lambda x: x * ops.hamming(4), X),
    "hanning": (lambda x: x * ops.hanning(4), X),
    "kaiser": (lambda x: x * ops.kaiser(4, 8.6), X),
    "quantile of several": (lambda x: ops.quantile(x, [0.1, 0.5, 0.9], axis=(1, 2)), X),
    "percentile of several": (lambda x: ops.percentile(x, [10.0, 70.0], axis=1, keepdims=True), X),
    "percentile below": (lambda x: ops.percentile(x, 70, axis=1, method="lower"), ((11,), F)),
    "percentile nearest": (lambda x: ops.percentile(x, 50, axis=1, method="nearest"), ((6,), F)),
    "percentile in the middle": (lambda x: ops.percentile(x, [33, 95], axis=1, method="midpoint"), ((6,), F)),
    "i0": (lambda x: ops.i0(x * 4), X),
    "i0 of large numbers": (lambda x: ops.log(ops.i0(x * 20)), X),
    "i0 of integers": (ops.i0, N),
    "erfc of large numbers": (lambda x: ops.log(ops.erfc(ops.abs(x) + 5)), X),
    "logaddexp of infinities": (lambda x: ops.exp(ops.logaddexp(*[-ops.abs(x) * float("inf")] * 2)), X),
    "gcd": (lambda x: ops.gcd(x * 14 - 28, 84), N),
    "gcd of small numbers": (lambda x, y: ops.gcd(ops.cast(x * 31, "int8"), ops.cast(y * 21, "int8")), N, N),
    "lcm": (lambda x: ops.lcm(np.array([4, 6, 0, 9], INT), x - 2), N),
    "lcm with a number": (lambda x: ops.lcm(x * 3, 10), N),
    "rearrange": (lambda x: Own(lambda v: ops.rearrange(v, "b i j -> b j i"))(x), X),
    "rearrange apart": (
        lambda x: Own(lambda v: ops.rearrange(v, "b (h p) (w q) c -> b (h w) (p q c)", h=3, p=2, w=2, q=4))(x),
        ((6, 8, 3), F),
    ),
    "rearrange together": (lambda x: Own(lambda v: ops.rearrange(v, "b i j -> (b j) i"))(x), X),
}

CASES |= {
    "erfinv": (lambda x: ops.erfinv(ops.tanh(x)), X),
    "associative_scan": (lambda x: ops.associative_scan(lambda a, b: a / 2 + b, x, axis=1), ((5, 2), F)),
    "associative_scan from the end": (
        lambda x: ops.associative_scan(lambda a, b: a * b, x, reverse=True, axis=2),
        ((3, 4), F),
    ),
    "associative_scan of two": (
        lambda x, y: ops.associative_scan(lambda a, b: (a[0] + b[0], a[1] * b[0]), (x, y), axis=1)[1],
        ((1, 2), F),
        ((1, 2), F),
    ),
    "pad symmetric": (lambda x: ops.pad(x, ((0, 0), (3, 0), (1, 4)), mode="symmetric"), X),
    "norm of columns": (lambda x: ops.norm(x, 1, axis=(1, 2)), X),
    "norm of rows": (lambda x: ops.norm(x, np.inf, axis=(2, 1), keepdims=True), X),
    "norm of the least column": (lambda x: ops.norm(x, -1, axis=(-1, -2)), X),
    "norm of the least row": (lambda x: ops.norm(x, -np.inf, axis=(1, 2)), X),
    "layer_normalization by the deviation": (lambda x: ops.layer_normalization(x, axis=-1, rms_scaling=True), X),
    "max of truth values": (lambda x: ops.max(x > 0, axis=1), X),
    "signbit of truth values": (lambda x: ops.signbit(x > 0), X),
    "power of small integers": (lambda x: ops.power(ops.cast(x, "int8"), ops.cast(ops.abs(x), "int8")), N),
    "quantile computed": (lambda x: ops.quantile(x, ops.sigmoid(ops.mean(x)), axis=1), X),
    "percentile computed": (lambda x: ops.percentile(x, ops.clip(x[0, 0] * 50, 0, 100), axis=(1, 2), keepdims=True), X),
    "nanquantile computed": (lambda x: nanless(ops.nanquantile(with_nan(x), ops.sigmoid(ops.mean(x)), axis=0)), X),
    "while_loop of a dict": (
        lambda x: ops.while_loop(
            lambda d: ops.sum(d["a"]) < 40, lambda d: {"a": d["a"] + 1, "b": d["b"] * 2}, {"a": x, "b": x}
        )["b"],
        X,
    ),
    "moments of half precision": (lambda x: ops.moments(ops.cast(x * 0 + 60000, "float16"), [1])[0], X),
    "meshgrid of integers": (lambda x: ops.meshgrid(x[0], x[1])[0], N),
    "reciprocal of doubles": (lambda x: ops.reciprocal(ops.cast(x, "float64")), X),
    "logsumexp of doubles": (lambda x: ops.logsumexp(ops.cast(x, "float64"), axis=1), X),
    "nanvar along no axis": (lambda x: ops.nanvar(x, axis=()), X),
}
#: Settings that no other case has.
CASES |= {
    "fmax of integers": (ops.fmax, N, N),
    "round of integers": (lambda x: ops.round(x, 1), N),
    "clip by rows": (lambda x: ops.clip(x, np.array([-1, -0.5, 0, 0.1], F), np.array([0, 0.5, 1, 0.2], F)), X),
    "cast to truth": (lambda x: ops.cast(ops.relu(x), "bool"), X),
    "nan_to_num of integers": (ops.nan_to_num, N),
    "take_along_axis of all": (lambda x, i: ops.take_along_axis(x, ops.reshape(i, (-1,)), axis=None), X, N),
    "take_along_axis of one for all": (lambda x, i: ops.take_along_axis(x, i[:, :1] % 3, axis=1), X, N),
    "slice from a computed place": (
        lambda x, i: ops.slice(x, ops.stack([0 * i[0, 0, 0], i[0, 0, 0] % 2, i[0, 0, 1] % 3]), (2, 2, 2)),
        X,
        N,
    ),
    "diagflat of a matrix": (lambda x: ops.diagflat(x[0, :2, :2]), X),
    "dot of a number": (lambda x, y: ops.dot(ops.sum(x), y), X, X),
    "dot of more axes": (lambda x, y: ops.dot(x, ops.transpose(y, (0, 2, 1))), X, X),
    "inner of a number": (lambda x, y: ops.inner(ops.sum(x), y), X, X),
    "kron of numbers": (lambda x, y: ops.kron(ops.sum(x), ops.max(y)), X, X),
    "tensordot along axes": (lambda x, y: ops.tensordot(x, y, axes=[[1, 2], [1, 2]]), X, X),
    "dot_product_attention with a bias": (
        lambda q, b: ops.nn.dot_product_attention(q, q, q, bias=b, mask=b > 0),
        ((3, 2, 4), F),
        ((2, 3, 3), F),
    ),
    "average of equal weights": (lambda x: ops.average(x, axis=1), X),
    "argmax of truth values": (lambda x: ops.argmax(x > 0, axis=1), X),
    "array_split in uneven parts": (lambda x: ops.array_split(x, 3, axis=2), X),
    "split in one part": (lambda x: ops.split(x, 1, axis=2), X),
    "unstack of one": (lambda x: ops.unstack(x[:, :1], axis=1), X),
    "tile of more axes": (lambda x: ops.tile(x[0], (2, 1, 3)), X),
    "repeat by counts": (lambda x: ops.repeat(x, [1, 2, 3], axis=1), X),
    "rot90 of squares by half a turn": (lambda x: ops.rot90(x[:, :, :3], 2, axes=(1, 2)), X),
    "rot90 by three quarters": (lambda x: ops.rot90(x, 3, axes=(1, 2)), X),
    "rot90 all around": (lambda x: ops.rot90(x, 4, axes=(1, 2)), X),
    "roll by nothing": (lambda x: ops.roll(x, 0, axis=1), X),
}
for _how in ("lower", "higher", "nearest", "midpoint"):
    CASES[f"nanquantile {_how}"] = (lambda x, how=_how: ops.nanquantile(x, [0.2, 0.7], axis=1, method=how), X)
