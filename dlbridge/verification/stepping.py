"""Checks that a model which takes and returns its cache computes in steps what it computes at once.

The judge gets whole sequences and an empty cache; a form gets the first tokens, then the others one by one, each time
with the cache that it has returned itself. Rows are padded on the left. What a model returns for padding is not
compared: it depends on how much padding there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge import constraints
from dlbridge.decoding import PAST, PRESENT
from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.verification.comparison import Comparison
from dlbridge.verification.forms import Form
from dlbridge.verification.inputs.arrays import batch_dim, filled_inputs
from dlbridge.verification.inputs.plans import Case
from dlbridge.verification.inputs.sizes import fitting_sizes
from dlbridge.verification.inputs.strategies import PLAIN
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays
from dlbridge.verification.report import Check, Report

#: What checks call it.
NAME = "a prompt and then steps"
#: Rows, tokens in all, and how many of them are the prompt.
_ROWS, _LENGTH, _PROMPT = 3, 7, 4
_MASK = "attention_mask"


@dataclass(frozen=True)
class _Ends:
    """Where a model takes tokens and their cache.

    Attributes:
        past: The name of the cache's length.
        seq: The name of the number of new tokens.
        caches: Input -> the output that is the input of the next step.
    """

    past: str
    seq: str
    caches: dict[str, str]

    def axis(self, value: ir.Value, text: str) -> int | None:
        """The axis of that size."""
        sizes = [None if isinstance(size, int) else size.value for size in value.shape or ()]
        return sizes.index(text) if text in sizes else None


class Stepping:
    """Runs forms of a model in steps, and compares them with the judge's run of the whole.

    Args:
        model: The model.
        ends: Where it takes tokens and their cache.
        judge: The judge.
        thorough: Whether the judge is always run in float64.

    Raises:
        DlbridgeError: When the judge does not take whole sequences.
    """

    def __init__(self, model: Model, ends: _Ends, judge: Judge, thorough: bool, seed: int) -> None:
        self._model, self._ends = model, ends
        batch = batch_dim(model)
        preferred = {ends.seq: _LENGTH, **({batch: _ROWS} if batch else {})}
        sizes = fitting_sizes(model, preferred, {ends.past: 0})
        arrays = filled_inputs(model, sizes, [PLAIN], seed=seed)
        self._length = sizes[ends.seq]
        if _MASK in arrays:
            rows = len(arrays[_MASK])
            first = np.arange(rows)[:, None] * 2 % min(_PROMPT, self._length)
            arrays[_MASK] = (np.arange(self._length) >= first).astype(arrays[_MASK].dtype)
        self._mask = arrays.get(_MASK)
        self._judge = judge.seen_through(self._counted)
        self._case = Case(sizes, arrays, (NAME,))
        self._judge.add(arrays)
        self._comparison = Comparison(model, self._judge, [self._case], thorough)

    def checks(self, form: Form, report: Report) -> list[Check]:
        """The check of a form. It has no node of its own where it departs: the sets of inputs before it have."""
        try:
            found = self._stepped(form.run)
        except DlbridgeError as error:
            report.failures[form.name] = f"{NAME}: {error}"
            return []
        return self._comparison.checks(_InSteps(form, self._stepped), [found], Report(report.model))

    def close(self) -> None:
        """Free the live model."""
        self._judge.close()

    def _stepped(self, run: Callable[[Arrays], Arrays]) -> Arrays:
        """What a form makes of the case in steps."""
        prompt = min(_PROMPT, self._length)
        past = {name: self._case.arrays[name] for name in self._ends.caches}
        parts: list[Arrays] = []
        for begin, end in [(0, prompt), *((i, i + 1) for i in range(prompt, self._length))]:
            parts.append(run({**self._cut(begin, end), **past}))
            past = {name: parts[-1][output] for name, output in self._ends.caches.items()}
        joined = {}
        for value in self._model.outputs:
            name, axis = value.name or "", self._ends.axis(value, self._ends.seq)
            joined[name] = parts[-1][name] if axis is None else np.concatenate([part[name] for part in parts], axis)
        return self._counted(joined)

    def _cut(self, begin: int, end: int) -> Arrays:
        """The inputs of a step: the tokens from ``begin`` to ``end``, and the mask up to there."""
        found = {}
        for value in self._model.inputs:
            name = value.name or ""
            array = self._case.arrays[name]
            new, total = (self._ends.axis(value, text) for text in (self._ends.seq, _total(self._ends)))
            if new is not None:
                array = array.take(range(begin, end), new)
            elif total is not None:
                array = array.take(range(end), total)
            found[name] = array
        return found

    def _counted(self, outputs: Arrays) -> Arrays:
        """The outputs with zeros in the places of padding."""
        if self._mask is None:
            return outputs
        found = {}
        for value in self._model.outputs:
            name = value.name or ""
            axes = [self._ends.axis(value, text) for text in (self._ends.seq, _total(self._ends))]
            axis = next((axis for axis in axes if axis is not None), None)
            array = outputs[name]
            if axis is not None:
                shape = [size if at in (0, axis) else 1 for at, size in enumerate(array.shape)]
                array = np.where(self._mask.reshape(shape) != 0, array, np.zeros((), array.dtype))
            found[name] = array
        return found


class _InSteps:
    """A form that is run in steps."""

    def __init__(self, form: Form, stepped: Callable[[Callable[[Arrays], Arrays]], Arrays]) -> None:
        self.name, self.note, self.eps = form.name, form.note, form.eps
        self._form, self._stepped = form, stepped

    def run(self, arrays: Arrays) -> Arrays:
        return self._stepped(self._form.run)

    def exact(self, cases: Sequence[Arrays], seen: list[np.ndarray] | None = None) -> list[Arrays] | None:
        if self._form.exact(cases) is None:
            return None

        def run(arrays: Arrays) -> Arrays:
            found = self._form.exact([arrays], seen)
            assert found is not None
            return found[0]

        return [self._stepped(run) for _ in cases]


def of(model: Model, judge: Judge, thorough: bool, seed: int) -> Stepping | None:
    """What runs forms of a model in steps; None for a model that was not read for generation, or takes no tokens.

    Raises:
        DlbridgeError: When the judge does not take whole sequences.
    """
    ends = _ends(model) if traits.GENERATION in model.graph.metadata_props else None
    return None if ends is None else Stepping(model, ends, judge, thorough, seed)


def _ends(model: Model) -> _Ends | None:
    inputs = {value.name or "": value for value in model.inputs}
    outputs = {value.name: value for value in model.outputs}
    ids = inputs.get("input_ids")
    if ids is None or ids.shape is None or len(ids.shape) != 2 or isinstance(ids.shape[1], int):
        return None
    pairs = {name: f"{PRESENT}.{name.removeprefix(f'{PAST}.')}" for name in inputs if name.startswith(f"{PAST}.")}
    caches = {name: output for name, output in pairs.items() if output in outputs}
    known = traits.constraints(model.graph)
    seq = ids.shape[1].value or ""
    behind = {
        size.value
        for name in caches
        for size in inputs[name].shape or ()
        if not isinstance(size, int) and size.value and constraints.smallest(size.value, known) == 0
    }
    return _Ends(behind.pop() or "", seq, caches) if len(behind) == 1 else None


def _total(ends: _Ends) -> str:
    """The size of cache and new tokens together, as shapes spell it."""
    return f"{ends.past} + {ends.seq}"
