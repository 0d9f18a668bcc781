"""Cases of ``keras.ops`` for signals, and of its mathematics that is more than one op: name -> (function, inputs)."""

from __future__ import annotations

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
