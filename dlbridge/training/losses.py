"""The losses, each by its formula: the number of each place of an output, and their mean.

Every framework computes these formulas, or a function of its own that computes the same. ``x`` is the output, ``t`` the
target; a *place* is a row, or where an output has further axes, an element of it (an axis of classes is in a place).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from dlbridge.errors import TrainingError
from dlbridge.training.loss_part import SMALLEST_LENGTH, LossPart, length, power, softplus, within_margin
from dlbridge.training.parts import Ops, Tensor

# --- classes --------------------------------------------------------------------------------------------------------


class _Classes(LossPart):
    """Losses of classes, whose target is a class number for each place or a row of probabilities.

    ``class_weights`` weigh each place by that of its class (of its probabilities); a place of the class number
    ``ignore_index`` has the weight 0; ``label_smoothing`` mixes that share of equal probabilities into the target.
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int | None = None
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    kind: ClassVar[str] = "classes"

    def _logarithms(self, x: Tensor, ops: Ops) -> Tensor:
        """The logarithms of the probabilities, with the classes on the last axis."""
        if self.reads_logits:
            return ops.log_softmax(x, axis=-1)
        return ops.log(within_margin(x / ops.sum(x, axis=-1, keepdims=True), ops))

    def _factor(self, logarithm: Tensor, ops: Ops) -> Tensor | None:
        """What the logarithm of each class is multiplied by; None for 1."""
        return None

    def _target(self, t: Tensor, x: Tensor, ops: Ops) -> Tensor:
        return ops.moveaxis(t, 1, -1) if self.class_axis == 1 and len(t.shape) == len(x.shape) else t

    def _labels(self, t: Tensor, ops: Ops) -> Tensor:
        """Class numbers, 0 where the place is ignored."""
        return t if self.ignore_index is None else ops.where(t == self.ignore_index, ops.zeros_like(t), t)

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        logarithm = self._logarithms(ops.moveaxis(x, 1, -1) if self.class_axis == 1 else x, ops)
        factor = self._factor(logarithm, ops)
        terms = logarithm if factor is None else factor * logarithm
        share, t = self.label_smoothing, self._target(t, x, ops)
        if len(t.shape) == len(terms.shape):
            t = t if share == 0 else (1 - share) * t + share / terms.shape[-1]
            return -ops.sum(t * terms, axis=-1)
        right = ops.pick(terms, self._labels(t, ops))
        return -right if share == 0 else -(1 - share) * right - share * ops.mean(terms, axis=-1)

    def weights(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor | None:
        t, given = self._target(t, x, ops), self.class_weights
        by_class = None if given is None else ops.constant(given, x)
        if len(t.shape) == len(x.shape):
            return None if by_class is None else ops.sum(t * by_class, axis=-1)
        weights = None if by_class is None else ops.take(by_class, self._labels(t, ops), axis=0)
        if self.ignore_index is None:
            return weights
        read = ops.cast(t != self.ignore_index, x)
        return read if weights is None else read * weights


class SoftmaxCrossEntropyLoss(_Classes):
    """Cross-entropy of logits (batch, classes, ...): ``-log softmax(x)[label]``; labels are class numbers (batch, ...),
    or probabilities of the logits' shape.

    Source: the ONNX operator SoftmaxCrossEntropyLoss, reduction mean.
    """

    op: Literal["SoftmaxCrossEntropyLoss"]
    class_axis: ClassVar[int] = 1

    @property
    def reads_logits(self) -> bool:
        return True


class NegativeLogLikelihoodLoss(_Classes):
    """``-x[label]`` of logarithms of probabilities (batch, classes, ...), with labels as SoftmaxCrossEntropyLoss.

    Source: the ONNX operator NegativeLogLikelihoodLoss.
    """

    op: Literal["NegativeLogLikelihoodLoss"]
    class_axis: ClassVar[int] = 1

    def _logarithms(self, x: Tensor, ops: Ops) -> Tensor:
        return x


class SparseCategoricalCrossentropy(_Classes):
    """Cross-entropy of probabilities (batch, ..., classes) with class numbers: ``-log p[label]``; or of logits.

    Computed from the logits where the model ends in a Softmax; else p is kept within [1e-7, 1 - 1e-7], as Keras does.
    Source: ``keras.losses.SparseCategoricalCrossentropy``.
    """

    op: Literal["SparseCategoricalCrossentropy"]
    from_logits: bool = False
    ending: ClassVar[str | None] = "Softmax"


class CategoricalCrossentropy(_Classes):
    """Cross-entropy of probabilities (batch, ..., classes) with others: ``-sum t log p``; or of logits.

    Computed as SparseCategoricalCrossentropy is. Source: ``keras.losses.CategoricalCrossentropy``.
    """

    op: Literal["CategoricalCrossentropy"]
    from_logits: bool = False
    kind: ClassVar[str] = "probabilities"
    ending: ClassVar[str | None] = "Softmax"

    @model_validator(mode="after")
    def _ignores_nothing(self) -> CategoricalCrossentropy:
        if self.ignore_index is not None:
            raise ValueError("ignore_index is of class numbers: SparseCategoricalCrossentropy has them")
        return self


class CategoricalFocalCrossentropy(_Classes):
    """``-alpha (1 - p)^gamma log p`` of the class' probability, with class numbers or rows of probabilities.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017 (as ``keras.losses.CategoricalFocalCrossentropy``).
    """

    op: Literal["CategoricalFocalCrossentropy"]
    from_logits: bool = False
    alpha: float = Field(0.25, gt=0)
    gamma: float = Field(2.0, ge=0)
    ending: ClassVar[str | None] = "Softmax"

    def _factor(self, logarithm: Tensor, ops: Ops) -> Tensor:
        return self.alpha * power(1 - ops.exp(logarithm), self.gamma, ops)


class KLDivergence(_Classes):
    """``sum t (log t - log p)`` over the classes of the last axis, of probabilities or of logits; 0 where t is 0.

    Source: Kullback & Leibler, 1951.
    """

    op: Literal["KLDivergence"]
    from_logits: bool = False
    kind: ClassVar[str] = "probabilities"
    ending: ClassVar[str | None] = "Softmax"

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        is_zero = t == 0
        entropy = t * ops.log(ops.where(is_zero, ops.ones_like(t), t))
        return ops.sum(entropy, axis=-1) + super().places(x, t, ops)


# --- two classes ----------------------------------------------------------------------------------------------------


class _Binary(LossPart):
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="The target becomes t (1 - s) + s / 2.")

    kind: ClassVar[str] = "shares"
    ending: ClassVar[str | None] = "Sigmoid"

    def _smooth(self, t: Tensor) -> Tensor:
        return t if self.label_smoothing == 0 else t * (1 - self.label_smoothing) + self.label_smoothing / 2

    def _entropy(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        if self.reads_logits:
            return ops.maximum(x, 0.0) - x * t + ops.log1p(ops.exp(-ops.abs(x)))
        p = within_margin(x, ops)
        return -(t * ops.log(p) + (1 - t) * ops.log(1 - p))


class BinaryCrossentropy(_Binary):
    """``-(t log p + (1 - t) log(1 - p))``, of probabilities or of logits; ``pos_weight`` multiplies the first term.

    Source: ``keras.losses.BinaryCrossentropy``; from logits as ``max(x, 0) - x t + log(1 + exp(-|x|))``.
    """

    op: Literal["BinaryCrossentropy"]
    from_logits: bool = False
    pos_weight: float | None = Field(None, gt=0)

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        t = self._smooth(t)
        if self.pos_weight is None:
            return self._entropy(x, t, ops)
        if self.reads_logits:  # -log p is softplus(-x)
            return self._entropy(x, t, ops) + (self.pos_weight - 1) * t * softplus(-x, ops)
        return self._entropy(x, t, ops) - (self.pos_weight - 1) * t * ops.log(within_margin(x, ops))


class BinaryFocalCrossentropy(_Binary):
    """``a (1 - q)^gamma (-log q)`` with ``q = p`` and ``a = alpha`` where t is 1, ``q = 1 - p`` and ``a = 1 - alpha``
    where it is 0, of probabilities or of logits.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017 (as ``keras.losses.BinaryFocalCrossentropy`` with
    ``apply_class_balancing``).
    """

    op: Literal["BinaryFocalCrossentropy"]
    from_logits: bool = False
    alpha: float = Field(0.25, gt=0, lt=1)
    gamma: float = Field(2.0, ge=0)

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        t = self._smooth(t)
        p = ops.sigmoid(x) if self.reads_logits else within_margin(x, ops)
        missed = 1 - (t * p + (1 - t) * (1 - p))
        return (t * self.alpha + (1 - t) * (1 - self.alpha)) * power(missed, self.gamma, ops) * self._entropy(x, t, ops)


class Hinge(LossPart):
    """``max(1 - t x, 0)``, with t of -1 and 1; 0 is taken as -1.

    Source: ``keras.losses.Hinge``.
    """

    op: Literal["Hinge"]
    kind: ClassVar[str] = "signs"

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        margin = 1 - t * x
        return ops.where(margin > 0, margin, ops.zeros_like(margin))


# --- numbers --------------------------------------------------------------------------------------------------------


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
