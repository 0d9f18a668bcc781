"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import keras_dtype, number, rules
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op

_WINDOWS = {"Hann": (0.5, 0.5), "Hamming": (25 / 46, 21 / 46), "Blackman": (0.42, 0.5, 0.08)}


@rules("HannWindow", "HammingWindow", "BlackmanWindow")
def window(op: Op) -> Code:
    weights = _WINDOWS[op.key.removesuffix("Window")]
    return call("cosine_window", number(op, 0), weights, bool(op.attr("periodic")), keras_dtype(op, op.out_dtype()))


@rules("MelWeightMatrix")
def mel_weight_matrix(op: Op) -> Code:
    return call("mel_weight_matrix", *(number(op, i) for i in range(5)), keras_dtype(op, op.out_dtype()))


@rules("DFT")
def dft(op: Op) -> Code:
    keywords: dict[str, Any] = {"length": number(op, 1)} if op.has(1) else {}
    keywords |= {"axis": number(op, 2)} if op.has(2) else {}
    keywords |= {name: True for name in ("inverse", "onesided") if op.attr(name)}
    return call("dft", op.x, **keywords)


@rules("STFT")
def stft(op: Op) -> Code:
    keywords: dict[str, Any] = {"window": op[2]} if op.has(2) else {}
    keywords |= {"length": number(op, 3)} if op.has(3) else {}
    keywords |= {} if op.attr("onesided") else {"onesided": False}
    return call("stft", op.x, op.dim(0, 1), number(op, 1), **keywords)
