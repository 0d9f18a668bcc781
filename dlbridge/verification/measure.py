"""Measures how far numbers are from the judge's, and how far rounding lets them be.

Errors are measured by groups of elements: the whole array, each row (one index on the first axis), each channel (one on
the second), and each index on the last axis. A group's error is relative to the largest number in the group, so that a
wrong score is noticed next to a large coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from dlbridge.ops.evaluator import eps

#: Rounding, in multiples of the type's eps, that is allowed in any case. Sums of many float32 numbers in another order
#: need most of it; kernels of the half types accumulate in float32. Frameworks hold constants in float32 even in a
#: float64 model.
_FREE = {"float64": 2.0**32, "float32": 64.0, "float16": 4.0, "bfloat16": 4.0}
#: How many times the judge's own rounding another form of the model may have.
FACTOR = 4.0
#: How far beyond its bound an error may be that a comparison in float64 can still clear.
NEAR = 4.0
#: If rounding is more than this share of a number, nothing can be shown.
_LARGEST = 0.1
#: A group with fewer elements than this is not measured by itself.
_SMALLEST_GROUP = 4

Arrays = dict[str, np.ndarray]
#: |y - judged|, |judged| and |own - judged|.
Distances = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Finding:
    """How far one output is from the judge's on one input.

    Attributes:
        error: The error of the group of elements that is furthest beyond its bound (or nearest to it), relative to the
            largest number in that group.
        bound: What is allowed there.
        message: Why it is wrong, if that is not a matter of size.
        group: Which elements: ``"index 3 of axis 1"``; empty for the whole output.
        strained: Whether the judge's own rounding is more than its type and the depth of the model explain.
        excused: Why it passes although it is beyond its bound.
    """

    error: float = 0.0
    bound: float = 0.0
    message: str = ""
    group: str = ""
    strained: bool = False
    excused: str = ""

    @property
    def fits(self) -> bool:
        return not self.message and self.error <= self.bound

    @property
    def is_near(self) -> bool:
        """Whether kernels that round otherwise than the judge's explain the error, if nothing else is wrong.

        The judge's own rounding in a group is one draw of few elements; with thousands of groups (the classes of a
        classifier) another form's largest rounding is beyond four times it in some.
        """
        return not self.message and self.error <= NEAR * self.bound


@dataclass(frozen=True)
class Allowance:
    """How much rounding a model can explain.

    Attributes:
        eps: The eps of the coarsest float type that the judge computes in.
        depth: The length of the longest chain of operations in the model.
        least: The relative rounding that is allowed in any case, where it is more than that of the output's type.
        of_one: Whether what a number below 1 rounds always passes: kernels of Sigmoid are as exact as that (those of
            onnxruntime are, which are a quarter off at 4e-8), and no more where it is near 0.
    """

    eps: float
    depth: int
    least: float = 0.0
    of_one: bool = False

    @property
    def most(self) -> float:
        """The rounding, relative to an output's largest number, that the type and the depth can explain."""
        return min(_LARGEST, free_of(self.eps) * (1 + self.depth / 8))


def free(dtype: Any) -> float:
    """The relative rounding that is allowed in any case for a float type."""
    return _FREE.get(np.dtype(dtype).name, 1.0) * eps(dtype)


def free_of(size: float) -> float:
    """The relative rounding that is allowed in any case for the float type of an eps; 0 for none."""
    return _free(size) * size


def _free(size: float) -> float:
    return _FREE["float32"] if size <= eps(np.float32) else _FREE["float16"]


def is_float(dtype: Any) -> bool:
    """Whether a dtype is a float, including the narrow ones."""
    name: str = np.dtype(dtype).name
    return name.startswith(("float", "bfloat"))


def mismatch(output: Arrays, judged: Arrays) -> dict[str, str]:
    """Output -> what is wrong with its name, dtype or shape; empty where they agree with the judge's."""
    found = {name: "there is no such output" for name in judged if name not in output}
    found |= {name: "the judge has no such output" for name in output if name not in judged}
    for name in judged.keys() & output.keys():
        got, want = output[name], judged[name]
        if got.shape != want.shape:
            found[name] = f"has shape {got.shape}, not {want.shape}"
        elif got.dtype != want.dtype:
            found[name] = f"has dtype {got.dtype}, not {want.dtype}"
    return found


def measure(
    outputs: Sequence[np.ndarray],
    judged: Sequence[np.ndarray],
    own: Sequence[np.ndarray] | None,
    allowance: Allowance,
) -> list[Finding]:
    """Compare one output with the judge's, on several sets of inputs.

    Args:
        outputs: The output of a form of the model, one array for each set of inputs.
        judged: The judge's in float64, or in its own types if ``own`` is None.
        own: The judge's in its own types.
        allowance: How much rounding the model can explain, beyond what is allowed in any case.
    """
    if not is_float(outputs[0].dtype):
        owns = judged if own is None else own
        return [_integers(y, j, o) for y, j, o in zip(outputs, judged, owns, strict=True)]
    dtype = outputs[0].dtype
    parts = [_distances(y, j, o) for y, j, o in zip(outputs, judged, own or judged, strict=True)]
    findings = [Finding() for _ in parts]
    for name, groups in _families(parts):
        for finding, (error, scale, owed, largest) in zip(findings, groups, strict=True):
            always = max(free(dtype), allowance.least)
            smallest = max(_smallest(dtype), eps(dtype) / 2 if allowance.of_one else 0.0)
            _worst(finding, name, (error, scale, owed), always, smallest, allowance.most * largest)
    return findings


def _worst(finding: Finding, name: str, groups: Distances, always: float, smallest: float, most: float) -> None:
    """Replace a finding by that of the worst group in a family, if that is worse.

    Args:
        finding: What was found in other families.
        name: The name of the family.
        groups: The error, scale and own rounding of each group.
        always: The relative error that is allowed in any case.
        smallest: The difference that always passes.
        most: The rounding that the model can explain.
    """
    error, scale, owed = groups
    if not error.size:
        return
    allowed = always * scale + np.minimum(FACTOR * owed, most) + smallest
    place = int(np.argmax(error / allowed))
    unit = float(scale[place]) or 1.0
    relative, bound = float(error[place]) / unit, float(allowed[place]) / unit
    finding.strained |= bool((owed > most).any())
    if finding.bound == 0.0 or relative * finding.bound > finding.error * bound:
        finding.error, finding.bound = relative, bound
        finding.group = f"index {place} of {name}" if name else ""


def _smallest(dtype: Any) -> float:
    """The difference that always passes: numbers below the smallest normal one may be flushed to zero, and products of
    them are then a little above it."""
    info = ml_dtypes.finfo(dtype)
    return 4 * float(info.smallest_subnormal if np.dtype(dtype) == np.float16 else info.smallest_normal)


def _distances(y: np.ndarray, judged: np.ndarray, own: np.ndarray) -> Distances:
    """|y - judged|, |judged| and |own - judged|. Infinities and NaN must be where the judge has them in either type."""
    y, judged, own = (a.astype(np.float64) for a in (y, judged, own))
    with np.errstate(all="ignore"):
        error, owed = np.abs(y - judged), np.abs(own - judged)
    same = (y == judged) | (np.isnan(y) & np.isnan(judged))
    as_own = ~np.isfinite(own) & ((y == own) | (np.isnan(y) & np.isnan(own)))
    error = np.where(same | as_own, 0.0, np.where(np.isfinite(error), error, np.inf))
    return error, np.where(np.isfinite(judged), np.abs(judged), 0.0), np.where(np.isfinite(owed), owed, 0.0)


def _families(parts: Sequence[Distances]) -> Iterator[tuple[str, list[tuple[Any, Any, Any, float]]]]:
    """Yield each way to group the elements: its name and, for each set of inputs, the error, scale and own rounding of
    each group, and the largest number of the array.

    Groups with the same index on an axis are joined over all sets of inputs, except on the first axis.
    """
    largest = [float(scale.max(initial=0.0)) for _, scale, _ in parts]
    whole = [tuple(np.asarray([a.max(initial=0.0)]) for a in part) for part in parts]
    yield "", [(*group, size) for group, size in zip(whole, largest, strict=True)]  # type: ignore[misc]
    rank = parts[0][0].ndim
    if rank < 2:
        return
    for axis in sorted({0, 1, rank - 1}):
        groups = [tuple(_largest(a, axis) for a in part) for part in parts]
        members = [part[0].size // max(1, part[0].shape[axis]) for part in parts]
        around = largest
        if axis > 0 and len({len(error) for error, _, _ in groups}) == 1:
            scale = np.max([g[1] for g in groups], axis=0)
            owed = np.max([g[2] for g in groups], axis=0)
            groups = [(error, scale, owed) for error, _, _ in groups]
            members = [sum(members)] * len(members)
            around = [max(largest)] * len(largest)
        none = (np.empty(0),) * 3
        kept = [g if m >= _SMALLEST_GROUP else none for g, m in zip(groups, members, strict=True)]
        yield f"axis {axis}", [(*group, size) for group, size in zip(kept, around, strict=True)]


def _largest(array: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(array.ndim) if a != axis)
    largest: np.ndarray = array.max(axis=others, initial=0.0)
    return largest


@dataclass(frozen=True)
class Tolerance:
    """Bounds that the caller sets instead of those that are measured: ``|y - judged| <= atol + rtol * |judged|``."""

    rtol: float = 0.0
    atol: float = 0.0

    def measure(self, y: np.ndarray, judged: np.ndarray, own: np.ndarray) -> Finding:
        """Compare an output with the judge's, element by element."""
        if not is_float(y.dtype):
            return _integers(y, judged, own)
        error, scale, _ = _distances(y, judged, own)
        allowed = self.atol + self.rtol * scale
        if not error.size:
            return Finding()
        place = int(np.argmax(error - allowed))
        group = f"element {[int(i) for i in np.unravel_index(place, error.shape)]}"
        return Finding(float(error.reshape(-1)[place]), float(allowed.reshape(-1)[place]), group=group)


def _integers(y: np.ndarray, judged: np.ndarray, own: np.ndarray) -> Finding:
    """Integers and booleans must be the judge's, in its own types or in float64."""
    wrong = (y != judged) & (y != own)
    count = int(wrong.sum())
    if not count:
        return Finding()
    return Finding(float("inf"), 0.0, f"{count} of {y.size} {y.dtype} values differ")


def relative_error(y: np.ndarray, reference: np.ndarray) -> float:
    """``max |y - ref| / max |ref|``; infinite where shapes, NaN or infinities differ, or integers or texts."""
    if y.shape != reference.shape:
        return float("inf")
    if reference.dtype.kind in "biuUSO":
        return 0.0 if np.array_equal(y, reference) else float("inf")
    y, reference = y.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(y[~finite], reference[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.abs(reference[finite]).max()
    return float(np.abs(y[finite] - reference[finite]).max() / (scale if scale > 0 else 1.0))
