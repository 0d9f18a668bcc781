"""Printed training code: what all frameworks say of a specification, and comments that name what is left out."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.source.names import argument_names
from dlbridge.source.tree.code import literal_text as text

#: Settings of a loss beside its formula.
_OF_LOSS = {
    "class_weights": None,
    "ignore_index": None,
    "label_smoothing": 0.0,
    "pos_weight": None,
    "sample_weight": None,
    "reduction": "mean",
    "weight": 1.0,
}
#: Settings of the training, and of its optimizer.
_OF_TRAINING = ("schedule", "clip", "ema", "precision", "l1", "l2", "early_stopping")
_OF_OPTIMIZER = ("groups", "no_decay")
_METRICS = ("accuracy", "mean_absolute_error", "mean_squared_error")


class Loop:
    """What a printed ``train`` function of one loss trains on.

    Args:
        spec: The specification.
        inputs: The names of the model's inputs.
        model: The model.
        taken: Names that the function's own lines use.

    Attributes:
        names: The variables of the inputs.
        target: The variable of the target.
        loss: The loss.
        outputs: The model's outputs.
        output: The one that the loss reads.
        key: The key under which the model returns it, as code; None where it returns no dict.
        place: What takes it from the outputs: ``"[1]"``; empty where there is one output.
        kept: How many rows are trained on, as code.
    """

    def __init__(self, spec: Any, inputs: Sequence[str], model: Model, taken: Sequence[str]) -> None:
        self.spec = spec
        self.outputs, keys = model.outputs, traits.output_keys(model.graph)
        self.loss = spec.losses[0]
        *self.names, self.target = argument_names([*inputs, self.loss.target or "label"], taken)
        self.output = next(value for value in self.outputs if self.loss.of in (None, value.name))
        number = self.outputs.index(self.output)
        self.key = None if keys is None else text(keys[number])
        if self.key is not None:
            self.place = f"[{self.key}]"
        else:
            self.place = f"[{number}]" if len(self.outputs) > 1 else ""
        self.kept = "kept" if spec.validation_split else f"len({self.target})"

    @property
    def arguments(self) -> list[str]:
        """The variables of the inputs and of the target."""
        return [*self.names, self.target]

    def head(self, has_loop: bool) -> list[str]:
        """The first lines of the function: its parameters, what is left out, how many rows a loop trains on."""
        spec = self.spec
        numbers = [f"epochs={spec.epochs}", f"batch_size={spec.batch_size}"] if has_loop else []
        parameters = ["model", *self.arguments, *numbers]
        lines = [f"def train({', '.join(parameters)}):", *left_out(spec)]
        if has_loop and spec.validation_split:
            count = f"int(len({self.target}) * (1 - {text(spec.validation_split)}))"
            lines.append(f"    kept = {count}  # the rows after these validate")
        return lines


@dataclass(frozen=True)
class LossCode:
    """The code of losses, with places for ``{output}``, ``{target}`` and ``{delta}``.

    Attributes:
        plain: Loss -> its code.
        of_logits: Loss of probabilities -> its code for logits.
    """

    plain: Mapping[str, str]
    of_logits: Mapping[str, str]

    def printed(self, loss: Any, output: str, target: str) -> str:
        """The code of the loss of a specification."""
        template = (self.of_logits if getattr(loss, "from_logits", False) else self.plain)[loss.op]
        return template.format(output=output, target=target, delta=text(getattr(loss, "delta", 1.0)))


def rows_of(names: Sequence[str], rows: str) -> str:
    """These rows of arrays, as arguments: ``x[rows], label[rows]``."""
    return ", ".join(f"{name}[{rows}]" for name in names)


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
    return None if spec.optimizer.kind in optimizers else f"optimizer {spec.optimizer.kind} as it is set"


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
