"""Fourier transforms (``torch.fft``) of any length, ``torch.stft`` and ``torch.istft``.

Normalization 0: none, 1: by the root of the count, 2: by it.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import numel, quotient, rank, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.complex_pairs import is_complex, joined
from dlbridge.frameworks.pytorch.graph.reading import Op, reads_complex

#: Normalization of a forward transform; of an inverse one "forward" and "backward" change places.
_NORMS = {None: 0, "backward": 0, "ortho": 1, "forward": 2}
_FFT = re.compile(r"fft_(i?)(r?)fft([2n]?)")


@reads_complex(*(f"aten.fft_{i}{r}fft{n}" for i in ("", "i") for r in ("", "r") for n in ("", "2", "n")))
def named_fft(op: Op, x: ir.Value, s: Any = None, dim: Any = None, norm: str | None = None) -> ir.Value:
    """``torch.fft``, read as a whole, as PyTorch's decomposition fixes unknown sizes."""
    inverse, real, many = _FFT.fullmatch(op.name).groups()  # type: ignore[union-attr]
    if dim is None:
        dim = {"": [-1], "2": [-2, -1], "n": list(range(rank(x)))}[many]
    axes = [axis % rank(x) for axis in (dim if isinstance(dim, list) else [dim])]
    lengths = s if isinstance(s, list) else [s] * len(axes)
    axes = axes[-len(lengths) :]
    normalization = 2 - _NORMS[norm] if inverse else _NORMS[norm]
    if inverse and real:  # of the last axis, the length of the result is said
        lengths = [*lengths[:-1], None]
    for axis, length in zip(axes, lengths, strict=True):
        x = _of_length(op, x, axis, length)
    if inverse and real:
        return inverse_real_fft(op, x, axes, normalization, op.sizes[axes[-1]])
    if real:
        return real_fft(op, x, axes, normalization, onesided=True)
    if not is_complex(x):
        x = with_sizes(joined(op, op.cast(x), op.filled(0, op.dtype, sizes(x))), sizes(x))
    return fft(op, x, axes, normalization, forward=not inverse)


@reads_complex("aten._fft_c2c")
def fft(op: Op, x: ir.Value, dim: list[int], normalization: int, forward: bool) -> ir.Value:
    made = _transformed(op, x, dim, inverse=not forward)
    return _normalized(op, made, [sizes(x)[d] for d in dim], normalization, inverse=not forward)


@reads_complex("aten._fft_r2c")
def real_fft(op: Op, x: ir.Value, dim: list[int], normalization: int, onesided: bool) -> ir.Value:
    made = op("DFT", op("Unsqueeze", x, [-1]), None, dim[-1] % rank(x), onesided=int(onesided))
    made = _transformed(op, with_sizes(made, op.sizes), dim[:-1], inverse=False)
    return _normalized(op, made, [sizes(x)[d] for d in dim], normalization, inverse=False)


@reads_complex("aten._fft_c2r")
def inverse_real_fft(op: Op, x: ir.Value, dim: list[int], normalization: int, last_dim_size: Any) -> ir.Value:
    axis = dim[-1] % rank(x)
    made = with_sizes(_transformed(op, x, dim[:-1], inverse=True), sizes(x))
    made = _of_length(op, made, axis, quotient(last_dim_size, 2) + 1)
    real = with_sizes(_of_half(op, made, axis, last_dim_size), op.sizes)
    return _normalized(op, real, [op.sizes[d] for d in dim], normalization, inverse=True)


def _of_length(op: Op, x: ir.Value, axis: int, length: Any) -> ir.Value:
    """Cut x, or pad it with zeros, to a length along one axis."""
    have = sizes(x)[axis]
    if length is None or length == -1 or have == length:
        return x
    of = [*sizes(x)[:axis], length, *sizes(x)[axis + 1 :]]
    fixed = isinstance(have, int) and isinstance(length, int)
    made = x
    if not fixed or have > length:
        made = op("Slice", made, [0], [length], [axis])
    if not fixed or have < length:
        missing = op.ints([length - have])
        if not fixed:
            missing = op("Max", missing, [0])
        made = op("Pad", made, op("Concat", [0], missing, axis=0), None, [axis])
    made = with_sizes(made, of)
    if is_complex(x):
        made.meta["complex"] = True
    return made


def _of_half(op: Op, spectrum: ir.Value, axis: int, count: Any) -> ir.Value:
    """``count`` real numbers from the first half of their spectrum; the second half is its conjugate, reversed."""
    half = quotient(count, 2) + 1
    mirror = op("Slice", spectrum, [count - half], [0], [axis], [-1])
    signs = op.constant(np.array([1.0, -1.0]), op.dtype)
    is_whole = isinstance(count, int) and count <= half
    whole = spectrum if is_whole else op("Concat", spectrum, mirror * signs, axis=axis)
    return op("Gather", op("DFT", whole, None, axis, inverse=1), 0, axis=-1)


def _transformed(op: Op, x: ir.Value, dim: list[int], *, inverse: bool) -> ir.Value:
    made = x
    for axis in dim:
        made = op("DFT", made, None, axis % rank(x), inverse=int(inverse) or None)
    return made


def _normalized(op: Op, x: ir.Value, lengths: list[Any], normalization: int, *, inverse: bool) -> ir.Value:
    """Normalize: ONNX divides an inverse transform by the count, and a forward transform not at all."""
    count = numel(lengths)
    power = ((1, 0.5, 0) if inverse else (0, -0.5, -1))[normalization]
    if not power:
        return x
    if isinstance(count, int):
        return x * float(count) ** power
    number = op.number(count, op.dtype)
    return op("Mul" if power > 0 else "Div", x, op("Sqrt", number) if power in (0.5, -0.5) else number)


# --- of short times --------------------------------------------------------------------------------------------------


def _window(op: Op, window: ir.Value | None, length: int | None, n_fft: int) -> ir.Value:
    """The window, centred in a frame; ones if none is given."""
    short = n_fft - (length or n_fft)
    if window is None:
        window = op.constant(np.ones(n_fft - short), op.dtype)
    return op("Pad", window, [short // 2, short - short // 2]) if short else window


@reads_complex("aten.stft")
def stft(
    op: Op,
    x: ir.Value,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: ir.Value | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> ir.Value:
    """``torch.stft`` of a signal that PyTorch has padded already. The frames are the last axis."""
    if is_complex(x) or align_to_window:
        op.refuse("stft of complex numbers, or aligned to the window")
    batch = op("Unsqueeze", x if rank(x) == 2 else op.unsqueeze(x, [0]), [-1])
    hop, weights = hop_length or n_fft // 4, _window(op, window, win_length, n_fft)
    made = op("STFT", batch, hop, weights, n_fft, onesided=int(onesided is not False))
    made = op("Transpose", made, perm=[0, 2, 1, 3])
    if rank(x) != 2:
        made = op("Squeeze", made, [0])
    return made * n_fft**-0.5 if normalized else made


@reads_complex("aten.istft")
def istft(
    op: Op,
    x: ir.Value,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: ir.Value | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> ir.Value:
    """The frames, weighted by the window, are added up where they overlap, and divided by what the squares of the
    windows add up to there (Griffin & Lim, 1984)."""
    hop = hop_length or n_fft // 4
    if return_complex or onesided is False:
        op.refuse("istft that gives complex numbers, or of both halves of the spectrum")
    if n_fft % hop:
        op.refuse("istft with frames that are no whole number of hops long")
    if length is not None and not isinstance(sizes(x)[-1], int):
        op.refuse("istft to a length, of frames whose number is not known")
    batch = x if rank(x) == 3 else op("Unsqueeze", x, [0])
    frames = _of_half(op, op("Transpose", batch, perm=[0, 2, 1, 3]), 2, n_fft)
    if normalized:
        frames = frames * n_fft**0.5
    framed = _window(op, window, win_length, n_fft)
    weights = op("Expand", framed * framed, [1, sizes(x)[-1], n_fft])
    total, weight = (_overlapped(op, v, n_fft // hop, hop) for v in (frames * framed, weights))
    first = n_fft // 2 if center else 0
    end = -first if center else np.iinfo(np.int64).max
    made = op("Slice", total / weight, [first], [end if length is None else first + length], [1])
    return made if rank(x) == 3 else op("Squeeze", made, [0])


def _overlapped(op: Op, frames: ir.Value, count: int, hop: int) -> ir.Value:
    """Overlap-add of frames (batch, time, count * hop), each a hop after the one before."""
    parts = op("Split", frames, outputs=count, axis=2, num_outputs=count)
    if not isinstance(parts, list):
        parts = [parts]
    filled = [op("Pad", part, [0, k, 0, 0, count - 1 - k, 0]) for k, part in enumerate(parts)]
    return op("Reshape", op("Sum", *filled) if count > 1 else filled[0], [0, -1])
