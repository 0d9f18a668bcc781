"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.arrays import TORCH, number
from dlbridge.source.arrays.signal import stft_options
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


@rules("HannWindow", "HammingWindow", "BlackmanWindow")
def window(op: Op) -> Code:
    kind = op.key.removesuffix("Window").lower()
    dtype = torch_dtype(op, op.out_dtype())
    keywords: dict[str, Any] = {} if op.attr("periodic") else {"periodic": False}
    if kind == "hamming":
        return code(
            "torch.hamming_window({}, {}, 25 / 46, 21 / 46, dtype={})", number(op, 0), bool(op.attr("periodic")), dtype
        )
    return call(f"torch.{kind}_window", number(op, 0), **keywords, dtype=dtype)


@rules("STFT")
def stft(op: Op) -> Code:
    return call("stft", op.x, number(op, 1), **stft_options(op, TORCH))
