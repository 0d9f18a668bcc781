"""The comments in printed training code that name what of a specification it leaves out."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from dlbridge.source.code import literal_text as text

#: Settings of a loss beside its formula.
_OF_LOSS = {
    "class_weights": None,
    "ignore_index": None,
    "label_smoothing": 0.0,
    "pos_weight": None,
    "sample_weight": None,
    "reduction": "mean",
}
#: Settings of the training, and of its optimizer.
_OF_TRAINING = ("schedule", "clip", "ema", "precision", "l1", "l2", "early_stopping")
_OF_OPTIMIZER = ("groups", "no_decay")
_METRICS = ("accuracy", "mean_absolute_error", "mean_squared_error")


def missing(spec: Any, losses: Collection[str], optimizers: Collection[str], given: Collection[str] = ()) -> str | None:
    """Why a training is not printed: its losses or its optimizer; None where it can be.

    Args:
        spec: The specification.
        losses: The losses that the printer has.
        optimizers: The optimizers that it has.
        given: Settings of a loss that it has.
    """
    if len(spec.losses) > 1:
        return "several losses"
    loss = spec.losses[0]
    changed = [k for k, usual in _OF_LOSS.items() if k not in given and getattr(loss, k, usual) != usual]
    if loss.op not in losses or changed:
        return " with ".join([loss.op, *([", ".join(changed)] if changed else [])])
    return None if spec.optimizer.kind in optimizers else f"the optimizer {spec.optimizer.kind}"


def instead(why: str) -> list[str]:
    """The comment that stands in place of a training that is not printed."""
    return [
        f"# There is no train function here, since this framework has no {why} of its own;",
        "# `dlbridge train` has it.",
    ]


def left_out(spec: Any) -> list[str]:
    """The comment of a printed loop on what ``dlbridge train`` does more; no lines where it does not."""
    extras = [k for k in _OF_TRAINING if getattr(spec, k)]
    extras += [k for k in _OF_OPTIMIZER if getattr(spec.optimizer, k)]
    extras += ["accumulate"] if spec.accumulate > 1 else []
    extras += [metric.name for metric in spec.metrics if metric.kind not in _METRICS or metric.of is not None]
    return [f"    # Not here, `dlbridge train` has it: {', '.join(extras)}."] if extras else []


def shown_metrics(spec: Any) -> list[str]:
    """The metrics that are printed."""
    return [metric.kind for metric in spec.metrics if metric.kind in _METRICS and metric.of is None]


def changed_arguments(kind: Any, numbers: Mapping[str, Any]) -> list[str]:
    """``name=value`` of the arguments of a class that are not its defaults."""
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    return [f"{name}={text(value)}" for name, value in numbers.items() if value != defaults.get(name)]
