"""What a framework is given to train by: losses bound to outputs, metrics bound to losses, the numbers of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlbridge.training.formulas.loss_part import LossPart, ended
from dlbridge.training.formulas.mixed import Float16, LossScale
from dlbridge.training.parts import Ops, Tensor
from dlbridge.training.running import Running
from dlbridge.training.spec import TrainingSpec

#: A loss -> a function of the framework (output, target) -> value that computes the same; None where there is none.
Own = Callable[[LossPart], Callable[[Tensor, Tensor], Tensor] | None]


@dataclass(frozen=True)
class Task:
    """What is trained: the losses of a model's outputs, and what is measured.

    Attributes:
        spec: The specification: optimizer, clipping, mean of the weights.
        losses: The losses, each with its target: the i-th target is that of the i-th loss.
        outputs: The place of each loss' output among the outputs of the model that is trained.
        endings: For each loss the op that the model applies to what the loss reads, which the model that is trained
            goes without; None where the loss reads what the model returns.
        metrics: Each metric, with the place of the loss whose output and target it is of.
        running: The device, compilation, and the callbacks of steps.
    """

    spec: TrainingSpec
    losses: tuple[LossPart, ...]
    outputs: tuple[int, ...]
    endings: tuple[str | None, ...]
    metrics: tuple[tuple[Any, int], ...]
    running: Running = field(default_factory=Running)

    def loss_scale(self, slots: Mapping[str, Mapping[str, np.ndarray]]) -> LossScale | None:
        """The loss scale, as a checkpoint remembers it; None where the loss is not scaled."""
        precision = self.spec.precision
        return LossScale(precision, slots) if isinstance(precision, Float16) else None

    def loss(
        self, outputs: Sequence[Tensor], targets: Sequence[Tensor], rows: Sequence[Tensor | None], ops: Ops, own: Own
    ) -> Tensor:
        """The sum of the losses of a batch.

        Args:
            outputs: The outputs of the model.
            targets: The target of each loss.
            rows: The weights of the rows for each loss, or None.
            ops: The functions of the framework.
            own: Losses that the framework computes by a function of its own.
        """
        total = None
        for loss, place, target, weights in zip(self.losses, self.outputs, targets, rows, strict=True):
            given = own(loss) if weights is None else None
            given = self.running.own_loss if loss.op == "Own" else given
            value = given(outputs[place], target) if given else loss.value(outputs[place], target, weights, ops)
            value = ops.mean(value) if loss.op == "Own" and len(value.shape) else value
            value = value if loss.weight == 1 else loss.weight * value
            total = value if total is None else total + value
        return total

    def sums(self, outputs: Sequence[Tensor], targets: Sequence[Tensor], ops: Ops) -> list[dict[str, Tensor]]:
        """The sums of each metric for a batch."""
        found = []
        for metric, place in self.metrics:
            x = outputs[self.outputs[place]]
            x = ended(x, self.endings[place], ops) if metric.of_returned else x
            found.append(metric.sums(x, targets[place], self.losses[place], ops))
        return found

    def sizes(self, shapes: Sequence[Sequence[Any]]) -> list[dict[str, tuple[int, ...]]]:
        """The shapes of the sums of each metric, given those of the model's outputs."""
        found = []
        for metric, place in self.metrics:
            found.append(metric.sizes(shapes[self.outputs[place]], self.losses[place]))
        return found

    def numbers(self, loss: float, rows: int, sums: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """The loss and the metrics of an epoch.

        Args:
            loss: The sum of the batches' losses, each times its rows.
            rows: The number of rows.
            sums: The sums of each metric over all batches.
        """
        values = {m.name: m.value(totals, self.losses[i]) for (m, i), totals in zip(self.metrics, sums, strict=True)}
        return {"loss": loss / rows, **values}

    def numbers_of_all(self, loss: Any, rows: Any, sums: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """As :meth:`numbers`, where this process may have a part of the rows: of all rows."""
        group = self.running.group
        if group is None:
            return self.numbers(float(loss), int(rows), sums)
        parts = [np.float64(loss), np.float64(rows), *(array for held in sums for array in held.values())]
        total, count, *rest = group.sum(parts)
        found = iter(rest)
        return self.numbers(float(total), int(count), [{name: next(found) for name in held} for held in sums])

    def totals(self) -> EpochTotals:
        """What the numbers of the batches of an epoch are added up in."""
        return EpochTotals(self)


class EpochTotals:
    """The loss and the sums of the metrics over batches."""

    def __init__(self, task: Task) -> None:
        self._task, self._loss, self._rows = task, 0.0, 0
        self._sums = [dict[str, Any]() for _ in task.metrics]

    def add(self, loss: float, sums: Sequence[Mapping[str, Any]], rows: int) -> None:
        """Add the numbers of a batch: its loss, and the sums of its metrics, which are read as arrays of NumPy."""
        self._rows += rows
        if rows:  # else other processes have all rows of this batch, and nothing counts
            self._loss += loss * rows
        for total, new in zip(self._sums, sums, strict=True):
            for name, number in new.items():
                array = np.asarray(number)
                total[name] = total.get(name, 0) + (array if rows else np.zeros_like(array))

    def numbers(self) -> dict[str, float]:
        """The loss and the metrics of all batches."""
        return self._task.numbers_of_all(self._loss, self._rows, self._sums)


@dataclass(frozen=True)
class Steps:
    """The numbers of an epoch's steps: the learning rate, and the terms of formulas that depend on the step alone.

    Attributes:
        spec: The specification.
        done: The steps that the optimizer has made before the epoch.
        epoch: The number of the epoch, from 0.
        batches: The number of its batches.
        history: The losses of the epochs so far, which a schedule may depend on.
    """

    spec: TrainingSpec
    done: int
    epoch: int
    batches: int
    history: Sequence[float]

    def __iter__(self) -> Iterator[dict[str, float]]:
        """For each batch: ``share`` of its gradient in a step's, whether it ``is_step``, ``rate``, and the formula's
        numbers of the step that it is part of."""
        size = self.spec.accumulate
        for batch in range(self.batches):
            first = batch - batch % size
            share = 1 / min(size, self.batches - first)
            is_step = (batch + 1) % size == 0 or batch + 1 == self.batches
            step = self.done + batch // size + 1
            yield {
                "share": share,
                "is_step": float(is_step),
                "rate": self.rate(step),
                **self.spec.optimizer.numbers(step),
            }

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        rate, schedule = self.spec.optimizer.learning_rate, self.spec.schedule
        if schedule is None:
            return rate
        in_all = -(-self.batches // self.spec.accumulate) * self.spec.epochs
        factor = schedule.at(step - 1, in_all, self.epoch, self.spec.epochs)
        return rate * factor * (schedule.after(self.history) if schedule.kind == "plateau" else 1.0)
