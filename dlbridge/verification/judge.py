"""Judges: the outputs that a model should have, computed by something that is not under test.

A judge is the original in float64 or, for a model that was not read from anything that runs, the standard's reference
evaluator on the neutral form. How much rounding is allowed is measured on the judge itself: its run in the types in use
against its run in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, VerificationError, first_line
from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator, eps
from dlbridge.ops.keys import is_op
from dlbridge.verification.measure import Allowance, Arrays, free_of, is_float

#: A loop or a recurrent layer counts as this many operations in a row.
_STEPS = 64
#: A number is another one if it is off by this part of the largest of its row.
_OTHER = 1e-2
_LOOPS = ("Loop", "Scan", "LSTM", "GRU", "RNN")

ORIGINAL, REFERENCE = "original", "reference"


class Judge:
    """The outputs that a model should have for some inputs.

    Sets of inputs are added one by one; they are known by their position.

    Args:
        model: The model.
        runs: Runs the model in its own types; None if the judge runs in float64 alone.
        opens: Returns a function that runs the model in float64; None if there is none.
        name: What the judge is called in reports.
        coarsest: The eps of the model's coarsest float type, where the judge computes in finer ones.

    Attributes:
        name: What the judge is called in reports.
        own: The outputs in the model's own types for each set of inputs: they have the right dtypes, and the judge's
            own rounding.
        trouble: Why it does not run in float64, if that was tried and failed.
    """

    def __init__(
        self,
        model: Model,
        runs: Callable[[Arrays], Arrays] | None,
        opens: Callable[[], Any] | None,
        name: str,
        coarsest: float = 0.0,
    ) -> None:
        self.name, self.trouble = name, ""
        self._coarsest = coarsest
        self.own: list[Arrays] = []
        self._model = model
        self._cases: list[Arrays] = []
        self._runs, self._opens = runs, opens
        self._exact_run: Any = None
        self._exact: dict[int, Arrays] = {}
        self._noisy: dict[tuple[int, float], Arrays] = {}

    def add(self, arrays: Arrays, outputs: Arrays | None = None) -> None:
        """Add a set of inputs, with the outputs for it where they are known.

        Raises:
            VerificationError: When the judge cannot run on it.
        """
        outputs = self.run(arrays) if outputs is None else outputs
        self._cases.append(arrays)
        self.own.append(outputs)

    def seen_through(self, view: Callable[[Arrays], Arrays]) -> Judge:
        """A judge with its own sets of inputs, whose outputs are those of this one passed through ``view``."""
        opens = self._opens
        viewed = None if opens is None else lambda: _Viewed(opens(), view)
        return Judge(self._model, lambda arrays: view(self.run(arrays)), viewed, self.name, self._coarsest)

    @property
    def is_finite(self) -> bool:
        """Whether its outputs for the first set of inputs are finite, so that they should be for others."""
        floats = [a for a in (self.own[0] if self.own else {}).values() if is_float(a.dtype)]
        return all(bool(np.isfinite(a.astype(np.float64)).all()) for a in floats)

    def exact(self, index: int) -> Arrays | None:
        """The outputs in float64 for a set of inputs; None if the judge does not run in float64."""
        if index not in self._exact:
            found = self._in_float64(self._cases[index])
            if found is None:
                return None
            self._exact[index] = found
        return self._exact[index]

    def noisy(self, index: int, size: float = 0.0) -> Arrays | None:
        """The outputs in float64 when each intermediate result is disturbed by as much as its type rounds, or by more.

        Args:
            index: The set of inputs.
            size: The disturbance, where it is larger than the rounding of the judge's own types.
        """
        size = max(size, self._noise())
        if (index, size) not in self._noisy and self.exact(index) is not None:
            found = self._in_float64(self._cases[index], noise=size)
            if found is not None:
                self._noisy[index, size] = found
        return self._noisy.get((index, size))

    def unsettled(self, arrays: Arrays) -> Arrays:
        """Find the output elements that rounding alone can turn into other numbers, as where one of equals is chosen.

        Args:
            arrays: The inputs, which need not have been added.

        Returns:
            Booleans by output name; empty if the judge does not run in float64, or gives outputs of other shapes.
        """
        up = self._in_float64(arrays, noise=self._noise())
        down = self._in_float64(arrays, noise=-self._noise()) if up is not None else None
        if up is None or down is None or any(down[name].shape != array.shape for name, array in up.items()):
            return {}
        return {name: _differs(array, down[name]) for name, array in up.items()}

    def _noise(self) -> float:
        own = self._exact_run.eps if self._exact_run is not None else 0.0
        return max(self._coarsest, own or eps(np.float32))

    def allowance(self, size: float = 0.0) -> Allowance:
        """How much rounding the type and the depth of the model can explain, in types of at least this eps."""
        return Allowance(max(size, self._noise()), self._depth, free_of(size))

    @functools.cached_property
    def _depth(self) -> int:
        return depth(self._model)

    def shown(self, index: int) -> list[np.ndarray] | None:
        """Every float array that the judge computes for one set of inputs, in order; None if it does not show them."""
        seen: list[np.ndarray] = []
        return seen if self._in_float64(self._cases[index], seen=seen) is not None else None

    def close(self) -> None:
        """Free the live model."""
        self._exact_run, self._opens = None, None

    def run(self, arrays: Arrays) -> Arrays:
        """The outputs in the model's own types.

        Raises:
            VerificationError: When the judge cannot run.
        """
        trouble: Exception | None = None
        found: Arrays | None = None
        runs, opens = self._runs, self._opens
        if runs is not None:
            try:
                return runs(arrays)
            except Exception as error:  # a type without kernels on a CPU; float64 has them
                trouble = error
        if trouble is None or not self.own:  # one that has run before has the kernels: it does not take these inputs
            self._runs = None
            found = self._in_float64(arrays)
        if found is not None:
            found = self._in_float64(arrays, noise=self._noise())
        if found is None:
            self._runs, self._opens = runs, opens  # neither takes these inputs, both may take others
            reason = f"{type(trouble).__name__}: {first_line(trouble)}" if trouble is not None else self.trouble
            raise VerificationError(
                f"{self.name} cannot be run, so nothing can be compared with it: {reason}",
                where=self._model.name,
                hint="convert without the check (--no-verify, check=False) if you can compare the result yourself",
            ) from trouble
        types = {v.name or "": v.dtype.numpy() for v in self._model.outputs if v.dtype is not None}
        with np.errstate(over="ignore"):
            return {n: a.astype(types[n]) if n in types else a for n, a in found.items()}

    def _in_float64(self, arrays: Arrays, **options: Any) -> Arrays | None:
        """The outputs in float64 for a set of inputs; None, with the reason in ``trouble``, if that fails."""
        if self._opens is None:
            return None
        try:
            self._exact_run = self._exact_run or self._opens()
            found: Arrays = self._exact_run(arrays, **options)
        except Exception as error:  # no kernels, or no copy can be made: its own types have to do
            self.trouble = f"{type(error).__name__}: {first_line(error)}"
            if not self._exact:
                self._exact_run, self._opens = None, None
            return None
        return found


class _Viewed:
    """A run in float64, of whose outputs something is made."""

    def __init__(self, run: Any, view: Callable[[Arrays], Arrays]) -> None:
        self._run, self._view, self.eps = run, view, run.eps

    def __call__(self, arrays: Arrays, **options: Any) -> Arrays:
        return self._view(self._run(arrays, **options))


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays have numbers that rounding does not explain."""
    if not is_float(a.dtype):
        return np.asarray(a != b)
    others = tuple(range(1, a.ndim))  # rows may be of very different sizes
    largest = np.max(np.abs(a), axis=others, keepdims=True, initial=0.0, where=np.isfinite(a))
    with np.errstate(invalid="ignore"):  # of infinities
        return np.asarray(np.abs(a - b) > _OTHER * largest)


def find(model: Model, kind: str | None, routes: Sequence[str]) -> Judge:
    """Choose the judge of a model.

    Args:
        model: The model.
        kind: ``"original"`` or ``"reference"``; when None, the original if there is one.
        routes: The routes under test; none of them may judge.

    Raises:
        DlbridgeError: When there is no such judge.
    """
    if kind not in (None, ORIGINAL, REFERENCE):
        raise DlbridgeError(f"no judge '{kind}'", hint=f"known: {ORIGINAL}, {REFERENCE}")
    original = model.original
    if kind == ORIGINAL and original is None:
        raise DlbridgeError(
            "there is no original to judge by", where=model.name, hint=f"judge='{REFERENCE}' needs none"
        )
    if original is not None and kind != REFERENCE:
        opens, opened = getattr(original, "exact", None), getattr(original, "opened", None)
        return Judge(model, original if opened is None else opened(), opens, "the original")
    runs = None if frameworks.STANDARD in routes else in_the_standard(model)
    return Judge(model, runs, lambda: evaluator(model), "the ONNX reference evaluator")


def of_another_type(model: Model, converted: Model, coarsest: float) -> Judge:
    """The judge of a model whose floats were converted to another type: the model before, in float64.

    Args:
        model: The model before.
        converted: The model with other float types.
        coarsest: The eps of the coarsest of them.
    """
    opens = getattr(model.original, "exact", None)
    if opens is not None:
        return Judge(converted, None, opens, "the original", coarsest)
    return Judge(converted, None, lambda: evaluator(model), "the ONNX reference evaluator", coarsest)


def evaluator(model: Model) -> Evaluator:
    """Runs the neutral form in float64, by the reference evaluator."""
    return Evaluator(model.ir)


def in_the_standard(model: Model) -> Callable[[Arrays], Arrays]:
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
