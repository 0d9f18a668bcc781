"""Less precision, as ``convert`` is asked for it: a narrower float type, weights in few bits; what is lost is measured.

Example:
    >>> dlbridge.convert("model.onnx", "onnx", "small.onnx", dtype="float16")                 # doctest: +SKIP
    >>> dlbridge.convert("model.onnx", "onnx", "small.onnx", quantize="int4")                 # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError

if TYPE_CHECKING:  # the command line imports this module for its words, and numpy takes a while
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.verification.loss import Loss

__all__ = ["DTYPES", "QUANTIZED", "Recipe", "recipe"]

DTYPES = ("float16", "bfloat16")
QUANTIZED = ("int8", "int8-static", "int4")
#: Rows of a set of inputs that calibration data is divided into.
_ROWS = 8


@dataclass(frozen=True)
class Recipe:
    """What is asked for.

    Attributes:
        dtype: What float32 becomes; None where it stays.
        quantize: What weights, or weights and activations, become.
        keep: Names of nodes and blocks that stay as they are.
        calibrate: Data, as ``predict`` takes it.
    """

    dtype: str | None
    quantize: str | None
    keep: tuple[str, ...]
    calibrate: Any

    @property
    def name(self) -> str:
        """``float16``, ``int4``, ``float16 and int4``."""
        return " and ".join(part for part in (self.dtype, self.quantize) if part)

    def write(self, model: Model, to: str, options: Mapping[str, Any]) -> Any:
        """The model with less precision, as it is written for a framework.

        Raises:
            DlbridgeError: When nothing in it can have less precision, or a name to keep is in none of its nodes.
        """
        from dlbridge.passes import narrowing

        if self.dtype is not None:
            model = narrowing.lower(model, self.dtype, self.keep)  # type: ignore[arg-type]
        written = model.write(to, **options)
        if self.quantize is None:
            return written
        data = self.data(model) if self.quantize == "int8-static" else []
        return frameworks.get(to).quantize(written, self.quantize, data=data, keep=self.keep)

    def data(self, model: Model) -> list[dict[str, np.ndarray]]:
        """The sets of inputs in the calibration data; none where there are no data."""
        if self.calibrate is None:
            return []
        from dlbridge.training.evaluation import input_batches
        from dlbridge.verification.inputs.arrays import batch_dim

        first = model.inputs[0].shape
        fixed = first[0] if first is not None and len(first) and batch_dim(model) is None else _ROWS
        return list(input_batches(model, self.calibrate, fixed if isinstance(fixed, int) else _ROWS))

    def loss(self, model: Model, full: Any, written: Any, cases: Sequence[dict[str, np.ndarray]]) -> Loss:
        """What is lost.

        Args:
            model: The model before.
            full: It, written in the standard.
            written: What :meth:`write` returned for the standard.
            cases: The sets of inputs to measure on where there are no calibration data.

        Raises:
            VerificationError: When an output is no longer finite.
        """
        from dlbridge.passes import rounding
        from dlbridge.verification import loss

        data = self.data(model)
        what = "made at random by the verification"
        if data:
            name = os.fspath(self.calibrate) if isinstance(self.calibrate, (str, os.PathLike)) else "given"
            used = ", those that it was calibrated with" if self.quantize == "int8-static" else ""
            what = f"the data {name}{used}"
        rounded = None
        if self.dtype is not None:
            rounded = dataclasses.replace(written, ir=rounding.rounded(written.ir, self.dtype))  # type: ignore[arg-type]
        inputs = f"{loss.rows_of(data or cases)}, {what}"
        return loss.measure(full, written, data or list(cases), precision=self.name, inputs=inputs, rounded=rounded)


def recipe(
    to: str,
    dtype: str | None = None,
    quantize: str | None = None,
    keep: Sequence[str] = (),
    calibrate: Any = None,
) -> Recipe | None:
    """What is asked for, checked; None where nothing is.

    Raises:
        DlbridgeError: When there is no such precision, or the target does not have it.
    """
    if dtype is None and quantize is None:
        if keep or calibrate is not None:
            what = "keep_float32" if keep else "calibrate"
            raise DlbridgeError(f"'{what}' is for less precision", hint="say which: dtype or quantize")
        return None
    if dtype is not None and dtype not in DTYPES:
        raise DlbridgeError(f"no narrower type '{dtype}'", hint=f"known: {', '.join(DTYPES)}")
    if quantize is not None and quantize not in QUANTIZED:
        raise DlbridgeError(f"no quantization '{quantize}'", hint=f"known: {', '.join(QUANTIZED)}")
    if to != frameworks.STANDARD:
        raise DlbridgeError(
            f"what is written for '{to}' has the model's own precision",
            hint="its framework lowers it (model.half(), a dtype policy); an ONNX file can be written in less",
        )
    if dtype is not None and quantize not in (None, "int4"):
        raise DlbridgeError(f"{quantize} is made of float32, not of {dtype}", hint="say one of them")
    if quantize == "int8-static" and calibrate is None:
        raise DlbridgeError("int8-static needs data to calibrate with", hint="give some: --calibrate FILE, calibrate=")
    return Recipe(dtype, quantize, tuple(keep), calibrate)
