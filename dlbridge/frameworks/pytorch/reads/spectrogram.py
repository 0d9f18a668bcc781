"""Short-time Fourier transforms: ``torch.stft`` and ``torch.istft``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.reading import Op, reads_complex
from dlbridge.frameworks.pytorch.reads.complex import is_complex
from dlbridge.frameworks.pytorch.reads.fourier import of_half
from dlbridge.frameworks.pytorch.tensors import rank, sizes


@dataclass(frozen=True)
class _Frames:
    """The arguments that both functions have: how a signal is cut into frames."""

    n_fft: int
    hop_length: int | None = None
    win_length: int | None = None
    window: ir.Value | None = None

    @property
    def hop(self) -> int:
        """The step from one frame to the next."""
        return self.hop_length or self.n_fft // 4

    def weights(self, op: Op) -> ir.Value:
        """The window, centred in a frame; ones if none is given."""
        short = self.n_fft - (self.win_length or self.n_fft)
        window = self.window
        if window is None:
            window = op.constant(np.ones(self.n_fft - short), op.dtype)
        return op("Pad", window, [short // 2, short - short // 2]) if short else window


@dataclass(frozen=True)
class _Stft(_Frames):
    normalized: bool = False
    onesided: bool | None = None
    return_complex: bool | None = None
    align_to_window: bool | None = None


@dataclass(frozen=True)
class _Istft(_Frames):
    center: bool = True
    normalized: bool = False
    onesided: bool | None = None
    length: int | None = None
    return_complex: bool = False


@reads_complex("aten.stft")
def stft(op: Op, x: ir.Value, *args: Any, **named: Any) -> ir.Value:
    """``torch.stft`` of a signal that PyTorch has padded already. The frames are the last axis."""
    asked = _Stft(*args, **named)
    n_fft = asked.n_fft
    if is_complex(x) or asked.align_to_window:
        op.refuse("stft of complex numbers, or aligned to the window")
    batch = x if rank(x) == 2 else op.unsqueeze(x, [0])
    step, length = (op.number(n, ir.DataType.INT64) for n in (asked.hop, n_fft))
    framed = asked.weights(op)
    made = op("STFT", op("Unsqueeze", batch, [-1]), step, framed, length, onesided=int(asked.onesided is not False))
    made = op("Transpose", made, perm=[0, 2, 1, 3])
    if rank(x) != 2:
        made = op("Squeeze", made, [0])
    return op("Mul", made, op.constant(n_fft**-0.5, op.dtype)) if asked.normalized else made


@reads_complex("aten.istft")
def istft(op: Op, x: ir.Value, *args: Any, **named: Any) -> ir.Value:
    """The frames, weighted by the window, are added up where they overlap, and divided by what the squares of the
    windows add up to there (Griffin & Lim, 1984)."""
    asked = _Istft(*args, **named)
    n_fft, hop, length = asked.n_fft, asked.hop, asked.length
    if asked.return_complex or asked.onesided is False:
        op.refuse("istft that gives complex numbers, or of both halves of the spectrum")
    if n_fft % hop:
        op.refuse("istft with frames that are no whole number of hops long")
    if length is not None and not isinstance(sizes(x)[-1], int):
        op.refuse("istft to a length, of frames whose number is not known")
    batch = x if rank(x) == 3 else op("Unsqueeze", x, [0])
    frames = of_half(op, op("Transpose", batch, perm=[0, 2, 1, 3]), 2, n_fft)
    if asked.normalized:
        frames = op("Mul", frames, op.constant(n_fft**0.5, op.dtype))
    framed = asked.weights(op)
    weights = op("Expand", op("Mul", framed, framed), op.ints([1, sizes(x)[-1], n_fft]))
    total, weight = (_overlapped(op, v, n_fft // hop, hop) for v in (op("Mul", frames, framed), weights))
    first = n_fft // 2 if asked.center else 0
    end = -first if asked.center else np.iinfo(np.int64).max
    made = op("Slice", op("Div", total, weight), [first], [end if length is None else first + length], [1])
    return made if rank(x) == 3 else op("Squeeze", made, [0])


def _overlapped(op: Op, frames: ir.Value, count: int, hop: int) -> ir.Value:
    """Overlap-add of frames (batch, time, count * hop), each a hop after the one before."""
    parts = op("Split", frames, outputs=count, axis=2, num_outputs=count)
    if not isinstance(parts, list):
        parts = [parts]
    filled = [op("Pad", part, [0, k, 0, 0, count - 1 - k, 0]) for k, part in enumerate(parts)]
    return op("Reshape", op("Sum", *filled) if count > 1 else filled[0], [0, -1])
