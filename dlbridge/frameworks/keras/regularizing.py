"""Regularizers and constraints of Keras: read as traits of weights, and given to the variables of a written model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import onnx_ir as ir
from keras import constraints, ops, regularizers

from dlbridge.frameworks.keras.training import functions
from dlbridge.ops import regularization
from dlbridge.ops.regularization import Limit, Penalty
from dlbridge.source.training.regularized import Regularized


def keep(value: ir.Value, variables: Sequence[Any], steps: tuple[tuple, ...] | None = None) -> None:
    """Keep what training does to variables with the initializer that they make up.

    Args:
        value: The initializer.
        variables: What it is made of.
        steps: How one variable becomes the initializer; None where they are joined in some other way.
    """
    penalties = {_penalty(getattr(v, "regularizer", None)) for v in variables}
    limits = {_limit(getattr(v, "constraint", None), v, steps) for v in variables}
    if len(penalties) > 1:
        penalties = {Penalty(unknown="of a part of it alone")}
    if len(limits) > 1:
        limits = {Limit("unknown", name="of a part of it alone")}
    (penalty,), (limit,) = penalties, limits
    if penalty is not None and penalty != Penalty():
        regularization.set_penalty(value, penalty)
    if limit is not None:
        regularization.set_limit(value, limit)


def _penalty(regularizer: Any) -> Penalty | None:
    if regularizer is None:
        return None
    kind = type(regularizer)
    if kind in (regularizers.L1, regularizers.L2, regularizers.L1L2):
        return Penalty(float(getattr(regularizer, "l1", 0.0)), float(getattr(regularizer, "l2", 0.0)))
    return Penalty(unknown=getattr(regularizer, "__name__", kind.__name__))


def _limit(constraint: Any, variable: Any, steps: tuple[tuple, ...] | None) -> Limit | None:
    if constraint is None:
        return None
    kind = type(constraint)
    name = getattr(constraint, "__name__", kind.__name__)
    if kind is constraints.NonNeg:
        return Limit("non_negative", name=name)
    numbers = {
        constraints.MaxNorm: lambda c: (0.0, float(c.max_value), 1.0),
        constraints.UnitNorm: lambda c: (1.0, 1.0, 1.0),
        constraints.MinMaxNorm: lambda c: (float(c.min_value), float(c.max_value), float(c.rate)),
    }.get(kind)
    if numbers is None or steps is None:
        return Limit("unknown", name=name)
    axes = constraint.axis if isinstance(constraint.axis, (list, tuple)) else [constraint.axis]
    rank = len(variable.shape)
    places = tuple(sorted(int(axis) % rank for axis in axes))
    return Limit("norm", *numbers(constraint), places, tuple(int(d) for d in variable.shape), steps, name)


def attach(variables: Mapping[str, Any], found: Mapping[str, Regularized]) -> None:
    """Give variables of a live model their regularizers and constraints, which ``fit`` heeds."""
    for key, regularized in found.items():
        penalty = regularized.penalty
        if penalty is not None and not penalty.unknown:
            variables[key].regularizer = _Penalty(regularized, penalty.l1, penalty.l2)
        if regularized.limit is not None and regularized.limit.kind != "unknown":
            variables[key].constraint = _Kept(regularized)


class _Penalty(regularizers.L1L2):
    """The formula, with its factors in the weight's own type; Keras rounds them to float32."""

    def __init__(self, regularized: Regularized, l1: float, l2: float) -> None:
        super().__init__(l1, l2)
        self._regularized = regularized

    def __call__(self, x: Any) -> Any:
        return self._regularized.added(ops.convert_to_tensor(x), functions)


class _Kept(keras.constraints.Constraint):
    """A limit, on a weight in any layout."""

    def __init__(self, regularized: Regularized) -> None:
        self._regularized = regularized

    def __call__(self, w: Any) -> Any:
        return self._regularized.limited(ops.convert_to_tensor(w), functions)
