"""The schedules: the learning rate of each step, as a factor on the optimizer's.

A schedule is computed once, in Python, and handed to every framework as a number a step. ``i`` is the number of steps
done (of epochs, where ``per`` is "epoch"), after the warm-up; ``n`` is their number, ``over`` where that is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from dlbridge.training.parts import Part


class _Schedule(Part):
    per: Literal["step", "epoch"] = "step"
    over: int | None = Field(
        None, ge=1, description="How many steps (epochs) it takes; those of the training when None."
    )
    warmup: int = Field(0, ge=0, description="Steps (epochs) at the start: the factor grows to 1 in equal parts.")
    warmup_from: float = Field(0.0, ge=0, description="What the factor grows from.")

    def factor(self, i: int, n: int) -> float:
        """The factor at a step after the warm-up."""
        raise NotImplementedError

    def at(self, step: int, steps: int, epoch: int, epochs: int) -> float:
        """The factor at a step: the number of steps done, their number in all, and the same of epochs."""
        done, total = (step, steps) if self.per == "step" else (epoch, epochs)
        if done < self.warmup:
            return self.warmup_from + (1 - self.warmup_from) * (done + 1) / self.warmup
        return self.factor(done - self.warmup, self.over or max(1, total - self.warmup))


class Constant(_Schedule):
    """1; with ``warmup`` a warm-up alone."""

    kind: Literal["constant"]

    def factor(self, i: int, n: int) -> float:
        return 1.0


class Step(_Schedule):
    """``gamma^(i // every)``; with ``milestones``, ``gamma`` to the number of those that are passed.

    Source: ``torch.optim.lr_scheduler.StepLR``, ``MultiStepLR``.
    """

    kind: Literal["step"]
    every: int = Field(1, ge=1)
    milestones: tuple[Annotated[int, Field(ge=0)], ...] = ()
    gamma: float = Field(0.1, gt=0)

    def factor(self, i: int, n: int) -> float:
        passed = sum(i >= m for m in self.milestones) if self.milestones else i // self.every
        return float(self.gamma**passed)


class Exponential(_Schedule):
    """``gamma^(i / every)``.

    Source: ``keras.optimizers.schedules.ExponentialDecay``.
    """

    kind: Literal["exponential"]
    every: int = Field(1, ge=1)
    gamma: float = Field(0.96, gt=0)

    def factor(self, i: int, n: int) -> float:
        return float(self.gamma ** (i / self.every))


class _Falling(_Schedule):
    """``end + (1 - end) share(left)``: from 1 to ``end``, by the part of the steps that is left."""

    end: float = Field(0.0, ge=0)

    def factor(self, i: int, n: int) -> float:
        return float(self.end + (1 - self.end) * self.share(1 - min(i / n, 1.0)))

    def share(self, left: float) -> float:
        """How much of the way down is left."""
        raise NotImplementedError


class Cosine(_Falling):
    """``end + (1 - end) (1 + cos(pi min(i / n, 1))) / 2``.

    Source: Loshchilov & Hutter, SGDR, 2017, without restarts.
    """

    kind: Literal["cosine"]

    def share(self, left: float) -> float:
        return (1 + math.cos(math.pi * (1 - left))) / 2


class Polynomial(_Falling):
    """``end + (1 - end) (1 - min(i / n, 1))^power``.

    Source: ``keras.optimizers.schedules.PolynomialDecay``.
    """

    kind: Literal["polynomial"]
    power: float = Field(1.0, gt=0)

    def share(self, left: float) -> float:
        return float(left**self.power)


class OneCycle(_Schedule):
    """By half cosines from ``1 / div`` to 1 in the first ``rise`` of the steps, then to ``1 / (div final_div)``.

    Source: Smith & Topin, Super-Convergence, 2018 (as ``torch.optim.lr_scheduler.OneCycleLR`` without the momentum).
    """

    kind: Literal["one_cycle"]
    rise: float = Field(0.3, gt=0, lt=1)
    div: float = Field(25.0, gt=0)
    final_div: float = Field(10000.0, gt=0)

    def factor(self, i: int, n: int) -> float:
        top, last = self.rise * n - 1, n - 1
        first, end = 1 / self.div, 1 / (self.div * self.final_div)
        if i <= top:
            return _between(first, 1.0, i / top if top else 1.0)
        return _between(1.0, end, min((i - top) / max(last - top, 1e-9), 1.0))


class Plateau(_Schedule):
    """1, times ``reduce`` after each ``patience`` epochs in which the loss (of validation, where there is one) has not
    become smaller than the best by ``min_delta``.

    Source: ``keras.callbacks.ReduceLROnPlateau``.
    """

    kind: Literal["plateau"]
    patience: int = Field(10, ge=1)
    reduce: float = Field(0.1, gt=0, lt=1)
    min_delta: float = Field(1e-4, ge=0)
    smallest: float = Field(0.0, ge=0, le=1, description="The smallest factor.")

    def factor(self, i: int, n: int) -> float:
        return 1.0

    def after(self, losses: Sequence[float]) -> float:
        """The further factor after these epochs."""
        factor, best, waited = 1.0, math.inf, 0
        for loss in losses:
            waited += 1
            if loss < best - self.min_delta:
                best, waited = loss, 0
            elif waited >= self.patience:
                factor, waited = max(factor * self.reduce, self.smallest), 0
        return factor


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


Schedule = Annotated[
    Constant | Step | Exponential | Cosine | Polynomial | OneCycle | Plateau, Field(discriminator="kind")
]
SCHEDULES: tuple[type[_Schedule], ...] = Schedule.__origin__.__args__  # type: ignore[attr-defined]


class EarlyStopping(Part):
    """Training ends after ``patience`` epochs in which the loss (of validation, where there is one) has not become
    smaller than the best by ``min_delta``."""

    patience: int = Field(5, ge=1)
    min_delta: float = Field(0.0, ge=0)

    def is_over(self, losses: Sequence[float]) -> bool:
        """Whether these epochs are enough."""
        best, waited = math.inf, 0
        for loss in losses:
            waited += 1
            if loss < best - self.min_delta:
                best, waited = loss, 0
        return waited >= self.patience
