"""Finds out what code does at other sizes than those that its questions were answered for.

Code that asks for a size that is not known (``if n % 2:``) was read one way. The question alone does not tell what that
means: ``if n > 512: raise`` says which sizes the model takes; behind ``if pad: x = ops.pad(x, pad)`` both ways are the
same; and ``if n % 2: x = x[:, :-1]`` chooses between two models, of which one was read. So the model is run at sizes
that break each condition, and what was read of it beside it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from dlbridge import constraints
from dlbridge.constraints import Expression
from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.keras.tracing.size_questions import Asked
from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator

#: The sizes near which those are looked for that break a condition, and those of what it is not about.
_NEAR, _USUAL = (1, 4, 9), 3
#: Inputs with more elements in total than this are not tried.
_LARGEST = 1 << 20
#: The largest allowed difference, relative to the largest number of a result; and in roundings of the type in use.
_TOLERANCE, _ROUNDINGS = 1e-4, 50

Sizes = dict[str, int]


class TwoWaysError(UnsupportedOpError):
    """The code of a model computes something else for some sizes than what was read.

    Attributes:
        question: What it asks of the sizes.
    """

    def __init__(self, asked: Asked, sizes: Sizes) -> None:
        said = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        name = next(iter(sizes))
        super().__init__(
            f"the model's code takes another way for some sizes: what was read is right for {asked.condition}, and "
            f"not for {said}",
            where=asked.line,
            hint=f"give '{name}' as a number in inputs (--input), or say which sizes are meant, if bounds or multiples "
            f"can: 'float32[batch,2<={name}<=16]', 'float32[batch,32*{name}]'",
        )
        self.question = asked.question


class _Outcome(enum.Enum):
    """What happened at some sizes."""

    SAME = "both compute the same"
    REFUSED = "the model does not take these sizes"
    OTHER = "the model computes something else"
    UNKNOWN = "it could not be tried"


def settle(model: Model, asked: Sequence[Asked], known: Sequence[Expression], live: Any) -> list[str]:
    """The conditions that say which sizes a model takes.

    Args:
        model: What was read, with its original.
        asked: What the model's code has asked of sizes.
        known: What the sizes keep anyway.
        live: The Keras model.

    Raises:
        TwoWaysError: When the code computes something else where a condition does not hold.
    """
    if not asked:
        return []
    conditions = {one.condition: Expression(one.condition) for one in asked}
    trial, kept = _Trial(model, live, list(conditions.values()), known), []
    for one in asked:
        outcomes = set()
        for sizes in trial.breaking(conditions[one.condition]):
            outcomes.add(trial.at(sizes))
            if _Outcome.OTHER in outcomes:
                raise TwoWaysError(one, {name: sizes[name] for name in sorted(conditions[one.condition].names)})
        if outcomes - {_Outcome.SAME} and not one.both:
            kept.append(one.condition)
    return list(dict.fromkeys(kept))


class _Trial:
    """A Keras model and what was read of it, side by side."""

    def __init__(self, model: Model, live: Any, conditions: Sequence[Expression], known: Sequence[Expression]) -> None:
        self._model, self._live, self._conditions, self._known = model, live, conditions, known
        self._shapes = {str(v.name): [_size(dim) for dim in v.shape or ()] for v in model.inputs}
        sizes = [size for shape in self._shapes.values() for size in shape if not isinstance(size, int)]
        self._names = sorted({name for size in sizes for name in size.names})
        self._evaluator: Evaluator | None = None
        self._outcomes: dict[tuple[int, ...], _Outcome] = {}

    def breaking(self, condition: Expression) -> Iterator[Sizes]:
        """Some sizes that break a condition and, where there are such, no other."""
        if not condition.names <= set(self._names):
            return
        broken: list[Sizes] = []
        wanted = [Expression(f"not ({condition.text})"), *self._known]
        others = [other for other in self._conditions if other is not condition]
        for near in _NEAR:
            preferred = {name: near if name in condition.names else _USUAL for name in self._names}
            sizes = constraints.fit([*wanted, *others], preferred) or constraints.fit(wanted, preferred)
            if sizes is None:
                return
            if sizes not in broken:
                broken.append(sizes)
                yield sizes

    def at(self, sizes: Sizes) -> _Outcome:
        """Run both at sizes."""
        key = tuple(sizes[name] for name in self._names)
        if key not in self._outcomes:
            self._outcomes[key] = self._compared(sizes)
        return self._outcomes[key]

    def _compared(self, sizes: Sizes) -> _Outcome:
        arrays = self._arrays(sizes)
        if arrays is None or self._model.original is None:
            return _Outcome.UNKNOWN
        try:
            with _state_kept(self._live):
                wanted = self._model.original(arrays)
        except Exception:  # whatever the user's code raises: it does not take these sizes
            return _Outcome.REFUSED
        if self._evaluator is None:
            self._evaluator = Evaluator(self._model.ir)
        try:
            made = self._evaluator(arrays)
        except Exception:  # the evaluator raises what NumPy does where sizes do not go together
            return _Outcome.OTHER
        tolerance = max(_TOLERANCE, _ROUNDINGS * self._evaluator.eps)
        return _Outcome.SAME if all(_close(made[n], wanted[n], tolerance) for n in wanted) else _Outcome.OTHER

    def _arrays(self, sizes: Sizes) -> dict[str, np.ndarray] | None:
        """Inputs of these sizes; None of strings, and where they are too large."""
        generator, total = np.random.default_rng(0), 0
        arrays = {}
        for value in self._model.inputs:
            shape = [size if isinstance(size, int) else int(size(sizes)) for size in self._shapes[str(value.name)]]
            total += int(np.prod(shape))
            if value.dtype is None or value.dtype.is_string() or total > _LARGEST or min(shape, default=0) < 0:
                return None
            is_float = value.dtype.is_floating_point()
            numbers = generator.normal(size=shape) if is_float else generator.integers(0, 2, shape)
            arrays[str(value.name)] = numbers.astype(value.dtype.numpy())
        return arrays


def _size(dim: Any) -> int | Expression:
    return dim if isinstance(dim, int) else Expression(str(dim.value))


@contextmanager
def _state_kept(live: Any) -> Iterator[None]:
    """Give the variables that a call changes their numbers back."""
    before = [(variable, keras.ops.convert_to_numpy(variable)) for variable in live.non_trainable_variables]
    try:
        yield
    finally:
        for variable, numbers in before:
            variable.assign(numbers)


def _close(made: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    if made.shape != wanted.shape:
        return False
    if wanted.dtype.kind not in "fc" and wanted.dtype.name != "bfloat16":
        return np.array_equal(made, wanted)
    wanted = wanted.astype(np.float64)
    scale = np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0.0)
    return np.allclose(made, wanted, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
