"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


def _number(op: Op, index: int) -> Any:
    """A scalar input as a Python number, or the code that reads it."""
    found = op.ints(index)
    if found is not None:
        return found[0]
    value = op.scalar(index)
    return code("{}.item()", op[index]) if value is None else value


@rules("HannWindow", "HammingWindow", "BlackmanWindow")
def window(op: Op) -> Code:
    kind = op.key.removesuffix("Window").lower()
    dtype = torch_dtype(op, op.out_dtype())
    keywords: dict[str, Any] = {} if op.attr("periodic") else {"periodic": False}
    if kind == "hamming":
        return code(
            "torch.hamming_window({}, {}, 25 / 46, 21 / 46, dtype={})", _number(op, 0), bool(op.attr("periodic")), dtype
        )
    return call(f"torch.{kind}_window", _number(op, 0), **keywords, dtype=dtype)


@rules("MelWeightMatrix")
def mel_weight_matrix(op: Op) -> Code:
    return call("mel_weight_matrix", *(_number(op, i) for i in range(5)), dtype=torch_dtype(op, op.out_dtype()))


@rules("DFT")
def dft(op: Op) -> Code:
    keywords: dict[str, Any] = {"length": _number(op, 1)} if op.has(1) else {}
    keywords |= {"axis": _number(op, 2)} if op.has(2) else {}
    keywords |= {name: True for name in ("inverse", "onesided") if op.attr(name)}
    return call("dft", op.x, **keywords)


@rules("STFT")
def stft(op: Op) -> Code:
    keywords: dict[str, Any] = {"window": op[2]} if op.has(2) else {}
    keywords |= {"length": _number(op, 3)} if op.has(3) else {}
    keywords |= {} if op.attr("onesided") else {"onesided": False}
    return call("stft", op.x, _number(op, 1), **keywords)
