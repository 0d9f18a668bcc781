"""The training section of a description: losses, optimizer, schedule, metrics, epochs, batches."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from dlbridge.training.datasets.prepare import Augmentation, Prepare
from dlbridge.training.formulas.losses import Loss
from dlbridge.training.formulas.metrics import Metric
from dlbridge.training.formulas.mixed import Precision
from dlbridge.training.formulas.optimizers import Adam, Optimizer
from dlbridge.training.formulas.schedules import EarlyStopping, Schedule
from dlbridge.training.parts import Ops, Part, Tensor


class Clip(Part):
    """Gradients are scaled to a ``norm`` of all together that is not larger, or each number is kept within ``value``.

    ``g min(1, norm / |g|)``, with the norm over all weights that train (Pascanu et al., 2013); ``max(min(g, v), -v)``.
    """

    norm: float | None = Field(None, gt=0)
    value: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _is_one(self) -> Clip:
        if (self.norm is None) == (self.value is None):
            raise ValueError("say norm or value")
        return self

    def clipped(self, gradients: Sequence[Tensor], ops: Ops, counts: Sequence[int] | None = None) -> list[Tensor]:
        """The gradients of all weights, clipped.

        Args:
            gradients: One for each weight.
            ops: The framework's functions.
            counts: How many weights of the model each stands for, whose gradients are alike; 1 where it is None.
        """
        if self.value is not None:
            return [ops.minimum(ops.maximum(g, -self.value), self.value) for g in gradients]
        counts = counts or [1] * len(gradients)
        squares = [count * ops.sum(g * g) for g, count in zip(gradients, counts, strict=True)]
        norm = ops.sqrt(sum(squares[1:], squares[0]))
        one = ops.ones_like(norm)
        is_larger = norm > self.norm
        factor = ops.where(is_larger, self.norm / ops.where(is_larger, norm, one), one)
        return [g * ops.cast(factor, g) for g in gradients]


class TrainingSpec(Part):
    """The training section of a description."""

    loss: Loss | tuple[Loss, ...] = Field(description="A loss, or several that are added up.")
    optimizer: Optimizer = Adam(kind="adam")
    schedule: Schedule | None = None
    clip: Clip | None = None
    accumulate: int = Field(
        1, ge=1, description="A step of the optimizer is of the mean gradient of so many batches; an epoch ends one."
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="Keep a mean of the weights: after each step, e = ema e + (1 - ema) w."
    )
    precision: Precision | None = Field(
        None, description="Compute products of matrices and convolutions in this half type; weights stay float32."
    )
    l1: float = Field(0.0, ge=0, description="l1 sum |w| is added to the loss, of weights that are not in no_decay.")
    l2: float = Field(0.0, ge=0, description="l2 sum w^2 is added to the loss, of weights that are not in no_decay.")
    metrics: tuple[Metric, ...] = ()
    epochs: int = Field(1, ge=1, lt=2**31)
    batch_size: int = Field(32, ge=1, lt=2**31)
    validation_split: float = Field(
        0.0, ge=0, lt=1, description="Share of the data, taken from its end, to validate on."
    )
    stratify: bool | None = Field(
        None,
        description="Whether the last rows of every class validate, in place of the last of all. Default: of a folder "
        "of images, whose classes come one after the other.",
    )
    prepare: dict[str, Prepare] = Field(
        default_factory=dict,
        description="What is done with an input before the model gets it, fitted on the rows that are trained on. It "
        "is kept with the model, and is put into the graph of what is exported.",
    )
    augment: dict[str, tuple[Augmentation, ...]] = Field(
        default_factory=dict, description="How images of an input are changed at random in training, in this order."
    )
    labels: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="The names of classes in the order of their numbers, by target. Default: those of the rows that "
        "are trained on, sorted, where a target is texts.",
    )
    early_stopping: EarlyStopping | None = None
    shuffle: bool = True
    seed: int = Field(0, ge=0, lt=2**63)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses, in their order."""
        return self.loss if isinstance(self.loss, tuple) else (self.loss,)

    @property
    def is_plain(self) -> bool:
        """Whether it is one loss, without anything that is added to the gradients, the weights or the learning rate."""
        more = self.schedule, self.clip, self.ema, self.precision
        return len(self.losses) == 1 and self.accumulate == 1 and not any(more) and not self.l1 and not self.l2

    def place_of(self, metric: Metric) -> int | None:
        """The place of the loss that a metric takes its target from: the first of its output; None where there is none.

        A loss that names no output is of the only one.
        """
        if metric.of is None:
            return 0
        return next((place for place, loss in enumerate(self.losses) if loss.of in (None, metric.of)), None)

    @model_validator(mode="after")
    def _classes_have_names_of_their_own(self) -> TrainingSpec:
        for target, names in self.labels.items():
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"two classes of '{target}' have the name '{twice[0]}'")
        return self

    @model_validator(mode="after")
    def _metrics_suit_losses(self) -> TrainingSpec:
        if not self.losses:
            raise ValueError("there is no loss")
        for metric in self.metrics:
            place = self.place_of(metric)
            if place is not None and self.losses[place].kind not in metric.of_kinds:
                raise ValueError(f"{metric.kind} is of {metric.of_what}, {self.losses[place].op} has none")
        names = [metric.name for metric in self.metrics]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two metrics have the name '{twice[0]}' in the history: leave out one")
        return self
