"""The losses, each by its formula: the number of each place of an output, and their mean.

Every framework computes these formulas, or a function of its own that computes the same. ``x`` is the output, ``t`` the
target; a *place* is a row, or where an output has further axes, an element of it (an axis of classes is in a place).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from dlbridge.errors import TrainingError
from dlbridge.training.formulas.class_losses import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    Hinge,
    KLDivergence,
    NegativeLogLikelihoodLoss,
    SoftmaxCrossEntropyLoss,
    SparseCategoricalCrossentropy,
)
from dlbridge.training.formulas.loss_part import SMALLEST_LENGTH, LossPart, length
from dlbridge.training.parts import Ops, Tensor


class MeanSquaredError(LossPart):
    """``(x - t)^2``."""

    op: Literal["MeanSquaredError"]

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        return (x - t) * (x - t)


class MeanAbsoluteError(LossPart):
    """``|x - t|``."""

    op: Literal["MeanAbsoluteError"]

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        return ops.abs(x - t)


class Huber(LossPart):
    """``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``, with ``e = x - t``.

    Source: Huber, Robust Estimation of a Location Parameter, 1964.
    """

    op: Literal["Huber"]
    delta: float = Field(1.0, gt=0)

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        error = x - t
        size = ops.abs(error)
        return ops.where(size <= self.delta, 0.5 * error * error, self.delta * (size - 0.5 * self.delta))


class LogCosh(LossPart):
    """``log(cosh(x - t))``, as ``|e| + log(1 + exp(-2 |e|)) - log 2``.

    Source: ``keras.losses.LogCosh``.
    """

    op: Literal["LogCosh"]

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        size = ops.abs(x - t)
        return size + ops.log1p(ops.exp(-2 * size)) - math.log(2)


class CosineSimilarity(LossPart):
    """``1 - x t / (|x| |t|)`` of the vectors on the last axis.

    Source: ``torch.nn.CosineEmbeddingLoss`` of equal ones. (Keras' is smaller by 1, with the same gradient.)
    """

    op: Literal["CosineSimilarity"]

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        return 1 - ops.sum(x * t, axis=-1) / (length(x, ops) * length(t, ops))


# --- sequences, and rows against each other ---------------------------------------------------------------------------


class CTC(LossPart):
    """``-log`` of the probability of all alignments of the labels, of logits (batch, time, classes); by row. The target
    is the labels (batch, length), those after a sequence's end are -1.

    Source: Graves et al., Connectionist Temporal Classification, 2006.
    """

    op: Literal["CTC"]
    blank: int = Field(0, ge=0, description="The class that stands for no label.")
    kind: ClassVar[str] = "labels"

    @property
    def reads_logits(self) -> bool:
        return True

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        """By the forward variables of the paper's section 4.1, in logarithms: labels with a blank around each."""
        logarithm = ops.log_softmax(x, axis=-1)
        blanks = ops.zeros_like(t) + self.blank
        labels = ops.where(t < 0, blanks, t)
        pairs = ops.stack([blanks, labels], axis=-1)
        extended = ops.concatenate([ops.reshape(pairs, (-1, 2 * t.shape[1])), blanks[:, :1]], axis=1)
        emitted = ops.take_along_axis(
            logarithm, ops.repeat(ops.expand_dims(extended, 1), int(logarithm.shape[1]), axis=1), axis=2
        )
        count, floor = 2 * t.shape[1] + 1, -1e30
        none = ops.zeros_like(emitted[:, 0, :2]) + floor
        # a step over the blank between two labels that differ
        skips = ops.concatenate([extended[:, :2] != extended[:, :2], extended[:, 2:] != extended[:, :-2]], axis=1)
        skips = skips & (extended != self.blank)
        first = ops.arange(count, logarithm) < 2
        forward = ops.where(first, emitted[:, 0], ops.zeros_like(emitted[:, 0]) + floor)
        for time in range(1, int(logarithm.shape[1])):
            one = ops.concatenate([none[:, :1], forward[:, :-1]], axis=1)
            two = ops.concatenate([none, forward[:, :-2]], axis=1)
            two = ops.where(skips, two, ops.zeros_like(two) + floor)
            forward = emitted[:, time] + ops.logaddexp(ops.logaddexp(forward, one), two)
        labelled = ops.sum(ops.cast(t >= 0, x), axis=1, keepdims=True)
        place = ops.cast(ops.arange(count, x), x)
        ends = (place == 2 * labelled) | (place == 2 * labelled - 1)
        return -ops.logsumexp(ops.where(ends, forward, ops.zeros_like(forward) + floor), axis=1)


class Triplet(LossPart):
    """``max(0, margin + d(a, p) - d(a, n))`` of the vectors of a batch, by row: the row of the same class that is
    farthest, and of another class that is nearest, by Euclidean distance. The target is the class of each row.

    Source: Hermans et al., In Defense of the Triplet Loss, 2017 (batch hard).
    """

    op: Literal["Triplet"]
    margin: float = Field(1.0, gt=0)
    kind: ClassVar[str] = "groups"

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        difference = ops.expand_dims(x, 1) - ops.expand_dims(x, 0)
        squares = ops.sum(difference * difference, axis=-1)
        is_zero = squares < SMALLEST_LENGTH
        distance = ops.where(is_zero, ops.zeros_like(squares), ops.sqrt(ops.where(is_zero, 1 + squares, squares)))
        is_same = ops.expand_dims(t, 1) == ops.expand_dims(t, 0)
        farthest = ops.max(ops.where(is_same, distance, ops.zeros_like(distance)), axis=1)
        nearest = ops.min(ops.where(is_same, ops.zeros_like(distance) + 1e30, distance), axis=1)
        margin = self.margin + farthest - nearest
        return ops.where(margin > 0, margin, ops.zeros_like(margin))


class Own(LossPart):
    """What a function of your own computes of the output and the target, which are tensors of the framework that
    trains: a number, or one for each row, whose mean is taken. The function is given beside the specification
    (``--loss mylosses:focal``, ``own_loss=``), one for each framework: a file never says what code is run."""

    op: Literal["Own"]
    kind: ClassVar[str] = "own"

    @model_validator(mode="after")
    def _is_whole(self) -> Own:
        if self.sample_weight is not None or self.reduction != "mean":
            raise ValueError("a loss of your own weighs and reduces by itself")
        return self

    def value(self, x: Tensor, t: Tensor, rows: Tensor | None, ops: Ops) -> Tensor:
        raise TrainingError(
            "the loss is a function of your own, which is run in training alone", hint="measure by another: --loss NAME"
        )


Loss = Annotated[
    SoftmaxCrossEntropyLoss
    | NegativeLogLikelihoodLoss
    | SparseCategoricalCrossentropy
    | CategoricalCrossentropy
    | CategoricalFocalCrossentropy
    | KLDivergence
    | BinaryCrossentropy
    | BinaryFocalCrossentropy
    | Hinge
    | MeanSquaredError
    | MeanAbsoluteError
    | Huber
    | LogCosh
    | CosineSimilarity
    | CTC
    | Triplet
    | Own,
    Field(discriminator="op"),
]
#: The losses, in the order in which the documentation has them.
LOSSES: tuple[type[LossPart], ...] = Loss.__origin__.__args__  # type: ignore[attr-defined]


def names(kinds: Any) -> list[str]:
    """The words by which a specification names losses or optimizers."""
    return [kind.model_fields["op" if "op" in kind.model_fields else "kind"].annotation.__args__[0] for kind in kinds]
