"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from typing import Any

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call

signal = Family()
_WINDOWS = {"Hann": (0.5, 0.5), "Hamming": (25 / 46, 21 / 46), "Blackman": (0.42, 0.5, 0.08)}


@signal("HannWindow", "HammingWindow", "BlackmanWindow")
def window(op: Op, arrays: ArrayDialect) -> Code:
    weights = _WINDOWS[op.key.removesuffix("Window")]
    dtype = arrays.dtype(op, op.out_dtype())
    return call("cosine_window", arrays.number(op, 0), weights, bool(op.attr("periodic")), dtype)


@signal("MelWeightMatrix")
def mel_weight_matrix(op: Op, arrays: ArrayDialect) -> Code:
    return call("mel_weight_matrix", *(arrays.number(op, i) for i in range(5)), arrays.dtype(op, op.out_dtype()))


@signal("DFT")
def dft(op: Op, arrays: ArrayDialect) -> Code:
    keywords: dict[str, Any] = {"length": arrays.number(op, 1)} if op.has(1) else {}
    keywords |= {"axis": arrays.number(op, 2)} if op.has(2) else {}
    keywords |= {name: True for name in ("inverse", "onesided") if op.attr(name)}
    return call("dft", op.x, **keywords)


@signal("STFT")
def stft(op: Op, arrays: ArrayDialect) -> Code:
    return call("stft", op.x, op.dim(0, 1), arrays.number(op, 1), **stft_options(op, arrays))


def stft_options(op: Op, arrays: ArrayDialect) -> dict[str, Any]:
    """The keywords of a short-time Fourier transform."""
    keywords: dict[str, Any] = {"window": op[2]} if op.has(2) else {}
    keywords |= {"length": arrays.number(op, 3)} if op.has(3) else {}
    return keywords | ({} if op.attr("onesided") else {"onesided": False})
