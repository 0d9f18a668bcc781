"""Judges: the outputs that a model should have, computed by something that is not under test.

A judge is the original in float64 or, for a model that was not read from anything that runs, the standard's reference
evaluator on the neutral form. How much rounding is allowed is measured on the judge itself: its run in the types in use
against its run in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator, eps
from dlbridge.ops.keys import is_op
from dlbridge.verification.measure import Allowance, Arrays

#: A loop or a recurrent layer counts as this many operations in a row.
_STEPS = 64
_LOOPS = ("Loop", "Scan", "LSTM", "GRU", "RNN")

ORIGINAL, REFERENCE = "original", "reference"


class Judge:
    """The outputs that a model should have for some inputs.

    Args:
        model: The model.
        cases: Arrays by input name, one mapping for each set of inputs.
        runs: Runs the model in its own types; None if the judge runs in float64 alone.
        opens: Returns a function that runs the model in float64; None if there is none.
        name: What the judge is called in reports.

    Attributes:
        name: What the judge is called in reports.
        trouble: Why it does not run in float64, if that was tried and failed.
    """

    def __init__(
        self,
        model: Model,
        cases: Sequence[Arrays],
        runs: Callable[[Arrays], Arrays] | None,
        opens: Callable[[], Any] | None,
        name: str,
    ) -> None:
        self.name, self.trouble = name, ""
        self._model, self._cases = model, list(cases)
        self._runs, self._opens = runs, opens
        self._exact_run: Any = None
        self._own: list[Arrays] | None = None
        self._exact: list[Arrays] | None = None
        self._noisy: list[Arrays] | None = None

    @property
    def own(self) -> list[Arrays]:
        """The outputs in the model's own types: they have the right dtypes, and the judge's own rounding."""
        if self._own is None:
            self._own = self._run_own()
        return self._own

    @property
    def exact(self) -> list[Arrays] | None:
        """The outputs in float64; None if the judge does not run in float64."""
        if self._exact is None:
            self._exact = self._all()
        return self._exact

    @property
    def noisy(self) -> list[Arrays] | None:
        """The outputs in float64 when each intermediate result is disturbed by as much as its type rounds."""
        if self._noisy is None and self.exact is not None:
            self._noisy = self._all(noise=self._exact_run.eps or eps(np.float32))
        return self._noisy

    @property
    def allowance(self) -> Allowance:
        """How much rounding the type and the depth of the model can explain."""
        coarsest = self._exact_run.eps if self._exact_run is not None else 0.0
        return Allowance(coarsest or eps(np.float32), depth(self._model))

    def shown(self, index: int) -> list[np.ndarray] | None:
        """Every float array that the judge computes for one set of inputs, in order; None if it does not show them."""
        if self.exact is None:
            return None
        seen: list[np.ndarray] = []
        self._exact_run(self._cases[index], seen=seen)
        return seen

    def close(self) -> None:
        """Free the live model."""
        self._exact_run, self._opens = None, None

    def _run_own(self) -> list[Arrays]:
        trouble: Exception | None = None
        if self._runs is not None:
            try:
                return [self._runs(arrays) for arrays in self._cases]
            except Exception as error:  # a type without kernels on a CPU; float64 has them
                trouble = error
        found = self.noisy
        if found is None:
            reason = (
                f": {type(trouble).__name__}: {_first_line(trouble)}" if trouble is not None else f": {self.trouble}"
            )
            raise VerificationError(
                f"{self.name} cannot be run, so nothing can be compared with it{reason}",
                where=self._model.name,
                hint="convert without the check (--no-verify, check=False) if you can compare the result yourself",
            ) from trouble
        types = {v.name or "": v.dtype.numpy() for v in self._model.outputs if v.dtype is not None}
        with np.errstate(over="ignore"):
            return [{n: a.astype(types[n]) if n in types else a for n, a in one.items()} for one in found]

    def _all(self, **options: Any) -> list[Arrays] | None:
        """The outputs in float64 for every set of inputs; None, with the reason in ``trouble``, if that fails."""
        if self._opens is None:
            return None
        try:
            self._exact_run = self._exact_run or self._opens()
            return [self._exact_run(arrays, **options) for arrays in self._cases]
        except Exception as error:  # no kernels, or no copy can be made: its own types have to do
            self._exact_run, self._opens = None, None
            self.trouble = f"{type(error).__name__}: {_first_line(error)}"
            return None


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def find(model: Model, cases: Sequence[Arrays], kind: str | None, routes: Sequence[str]) -> Judge:
    """Choose the judge of a model.

    Args:
        model: The model.
        cases: Arrays by input name, one mapping for each set of inputs.
        kind: ``"original"`` or ``"reference"``; when None, the original if there is one.
        routes: The routes under test; none of them may judge.

    Raises:
        DlbridgeError: When there is no such judge.
    """
    original = model.original
    if kind not in (None, ORIGINAL, REFERENCE):
        raise DlbridgeError(f"no judge '{kind}'", hint=f"known: {ORIGINAL}, {REFERENCE}")
    if kind == ORIGINAL and original is None:
        raise DlbridgeError(
            "there is no original to judge by", where=model.name, hint=f"judge='{REFERENCE}' needs none"
        )
    if original is not None and kind != REFERENCE:
        opens = getattr(original, "exact", None)
        return Judge(model, cases, original, opens, "the original")
    runs = None if frameworks.STANDARD in routes else _standard(model)
    return Judge(model, cases, runs, lambda: Evaluator(model.ir), "the ONNX reference evaluator")


def _standard(model: Model) -> Callable[[Arrays], Arrays]:
    """Return a function that runs a model in the standard's runtime, which is not part of dlbridge."""
    live: list[Any] = []
    framework = frameworks.get(frameworks.STANDARD)

    def run(arrays: Arrays) -> Arrays:
        if not live:
            live.append(framework.load(framework.write(model)))
        return framework.run(live[0], arrays)

    return run


def depth(model: Model) -> int:
    """The length of the longest chain of operations in a model."""
    depths: dict[Any, int] = {}
    deepest = 0
    for node in model.graph:
        before = max((depths.get(v, 0) for v in node.inputs if v is not None), default=0)
        here = before + (_STEPS if is_op(node, *_LOOPS) else 1)
        depths.update(dict.fromkeys(node.outputs, here))
        deepest = max(deepest, here)
    return deepest
