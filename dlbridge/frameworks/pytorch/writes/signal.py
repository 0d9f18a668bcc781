"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.arrays import TORCH
from dlbridge.source.arrays.signal import stft_options
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


@rules("HannWindow", "HammingWindow", "BlackmanWindow")
def window(op: Op) -> Code:
    kind = op.key.removesuffix("Window").lower()
    dtype = torch_dtype(op, op.out_dtype())
    size, is_periodic = TORCH.number(op, 0), bool(op.attr("periodic"))
    if kind == "hamming":
        return code("torch.hamming_window({}, {}, 25 / 46, 21 / 46, dtype={})", size, is_periodic, dtype)
    return call(f"torch.{kind}_window", size, periodic=None if is_periodic else False, dtype=dtype)


@rules("STFT")
def stft(op: Op) -> Code:
    return call("stft", op.x, TORCH.number(op, 1), **stft_options(op, TORCH))
