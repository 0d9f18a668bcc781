"""Short-time Fourier transforms: ``torch.stft`` and ``torch.istft``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.reading import Op, reads_complex
from dlbridge.frameworks.pytorch.reads.complex import is_complex
from dlbridge.frameworks.pytorch.reads.fourier import of_half
from dlbridge.frameworks.pytorch.tensors import rank, sizes


def _window(op: Op, window: ir.Value | None, n_fft: int, win_length: int | None) -> ir.Value:
    """The window, centred in a frame; ones if none is given."""
    short = n_fft - (win_length or n_fft)
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
    batch = x if rank(x) == 2 else op.unsqueeze(x, [0])
    step, length = (op.number(n, ir.DataType.INT64) for n in (hop_length or n_fft // 4, n_fft))
    framed = _window(op, window, n_fft, win_length)
    made = op("STFT", op("Unsqueeze", batch, [-1]), step, framed, length, onesided=int(onesided is not False))
    made = op("Transpose", made, perm=[0, 2, 1, 3])
    if rank(x) != 2:
        made = op("Squeeze", made, [0])
    return op("Mul", made, op.constant(n_fft**-0.5, op.dtype)) if normalized else made


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
    frames = of_half(op, op("Transpose", batch, perm=[0, 2, 1, 3]), 2, n_fft)
    if normalized:
        frames = op("Mul", frames, op.constant(n_fft**0.5, op.dtype))
    framed = _window(op, window, n_fft, win_length)
    weights = op("Expand", op("Mul", framed, framed), op.ints([1, sizes(x)[-1], n_fft]))
    total, weight = (_overlapped(op, v, n_fft // hop, hop) for v in (op("Mul", frames, framed), weights))
    first = n_fft // 2 if center else 0
    end = np.iinfo(np.int64).max if not center else -first
    made = op("Slice", op("Div", total, weight), [first], [end if length is None else first + length], [1])
    return made if rank(x) == 3 else op("Squeeze", made, [0])


def _overlapped(op: Op, frames: ir.Value, count: int, hop: int) -> ir.Value:
    """Overlap-add of frames (batch, time, count * hop), each a hop after the one before."""
    parts = op("Split", frames, outputs=count, axis=2, num_outputs=count)
    if not isinstance(parts, list):
        parts = [parts]
    filled = [op("Pad", part, [0, k, 0, 0, count - 1 - k, 0]) for k, part in enumerate(parts)]
    return op("Reshape", op("Sum", *filled) if count > 1 else filled[0], [0, -1])
