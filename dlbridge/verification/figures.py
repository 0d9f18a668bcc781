"""Figures that people know errors by: relative to the row, in units of the last place, by the place of the largest."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from dlbridge.verification.measure import is_float

#: Numbers below this part of their row's largest are small: a unit of their last place tells nothing.
_SMALL = 0.01


@dataclass
class Figures:
    """How far an output is from the judge's on one set of inputs.

    Attributes:
        by_row: The largest error relative to the largest number of its row.
        ulps: The largest error in units of the last place, of numbers that are not small in their row.
        argmax: The share of rows whose largest number is at the judge's place; a tie counts as agreement.
        ties: The number of rows whose two largest numbers are nearer to each other than the bound.
    """

    by_row: float | None = None
    ulps: float | None = None
    argmax: float | None = None
    ties: int = 0


def figures(output: np.ndarray, judged: np.ndarray, bound: float) -> Figures:
    """The figures of an output.

    Args:
        output: The output of a form.
        judged: The judge's.
        bound: The relative error that is allowed.
    """
    if not is_float(output.dtype) or not output.size or not output.ndim:
        return Figures()
    y, wanted = output.astype(np.float64), judged.astype(np.float64)
    both = np.isfinite(y) & np.isfinite(wanted)
    error = np.where(both, np.abs(np.where(both, y - wanted, 0.0)), 0.0)
    size = np.where(both, np.abs(wanted), 0.0)
    rows = error.reshape(len(error), -1)
    largest = size.reshape(len(size), -1).max(axis=1, initial=0.0)
    relative = rows.max(axis=1, initial=0.0)[largest > 0] / largest[largest > 0]
    shape = (len(size), *[1] * (size.ndim - 1))
    counted = both & (size > _SMALL * largest.reshape(shape)) & (size > 0)
    found = Figures(by_row=float(relative.max(initial=0.0)))
    if counted.any():
        units = size[counted] * float(ml_dtypes.finfo(output.dtype).eps)
        found.ulps = float((error[counted] / units).max())
    if y.ndim > 1 and y.shape[-1] > 1 and both.all():
        found.argmax, found.ties = _places(y, wanted, bound)
    return found


def _places(y: np.ndarray, wanted: np.ndarray, bound: float) -> tuple[float, int]:
    """The share of rows whose largest number is at the same place, and the number of ties."""
    classes = wanted.shape[-1]
    y, wanted = y.reshape(-1, classes), wanted.reshape(-1, classes)
    best = wanted.argmax(-1)
    first, second = np.partition(wanted, -2, axis=-1)[:, -1], np.partition(wanted, -2, axis=-1)[:, -2]
    is_tie = first - second <= bound * np.abs(wanted).max(-1)
    return float(((y.argmax(-1) == best) | is_tie).mean()), int(is_tie.sum())
