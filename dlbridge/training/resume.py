"""Checks that a training can continue from a checkpoint: the same model, trained in the same way."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.training.formulas import mixed
from dlbridge.training.result import Checkpoint
from dlbridge.training.spec import TrainingSpec

#: The settings that may change when training continues; a change of any other would make it another training.
MAY_CHANGE = frozenset(
    {"epochs", "batch_size", "optimizer.learning_rate", "optimizer.weight_decay", "early_stopping", "accumulate"}
)


def check(checkpoint: Checkpoint, model: Model, spec: TrainingSpec) -> None:
    """Check that a checkpoint belongs to this model and this specification.

    Raises:
        TrainingError: When it belongs to another model, or the optimizer, the loss or any other setting differs.
    """
    if checkpoint.weights:
        _check_weights(checkpoint.weights, model)
    if checkpoint.spec is not None:
        _check_spec(checkpoint.spec, spec)
    elif checkpoint.step and checkpoint.slots.keys() - {"ema", mixed.SLOT} != set(spec.optimizer.slots):
        raise TrainingError(
            f"the checkpoint is of another optimizer: it holds {_listed(checkpoint.slots)}, "
            f"{spec.optimizer.kind} needs {_listed(spec.optimizer.slots)}",
            hint="continue with the optimizer that it was trained with, or start anew",
        )


def _check_weights(weights: dict[str, np.ndarray], model: Model) -> None:
    held = model.graph.initializers
    other = [n for n, w in weights.items() if n not in held or w.shape != tuple(held[n].const_value.shape.numpy())]  # type: ignore[union-attr]
    if len(model.outputs) == 1:  # the loss may read only one of several outputs, which does not need all weights
        other += [n for n, v in held.items() if traits.kind(v) == "parameter" and v.uses() and n not in weights]
    if other:
        raise TrainingError(
            f"the checkpoint is of another model, which differs in '{other[0]}'", where=model.name, hint="start anew"
        )


def _check_spec(before: TrainingSpec, now: TrainingSpec) -> None:
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    changed = [name for name in differing if not any(name == may or name.startswith(f"{may}.") for may in MAY_CHANGE)]
    if changed:
        shown = "; ".join(f"{n} was {old.get(n)!r} and is {new.get(n)!r}" for n in changed)
        raise TrainingError(
            f"the checkpoint was trained in another way: {shown}",
            hint=f"only {', '.join(sorted(MAY_CHANGE))} may change when training continues; or start anew",
        )


def _flat(spec: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in spec.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
