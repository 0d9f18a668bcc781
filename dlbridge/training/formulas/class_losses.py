"""The losses of classes, of shares and of signs: cross-entropies, focal losses, divergence, hinge.

``x`` is the output, ``t`` the target; see ``dlbridge.training.formulas.losses``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dlbridge.training.formulas.loss_part import LossPart, power, softplus, within_margin
from dlbridge.training.parts import Ops, Tensor


class _Classes(LossPart):
    """Losses of classes, whose target is a class number for each place or a row of probabilities.

    ``class_weights`` weigh each place by that of its class (of its probabilities); a place of the class number
    ``ignore_index`` has the weight 0; ``label_smoothing`` mixes that share of equal probabilities into the target.
    """

    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    ignore_index: int | None = None
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    kind: ClassVar[str] = "classes"

    @model_validator(mode="after")
    def _weighs_a_class(self) -> Self:
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError("all class_weights are 0: nothing would be learned")
        return self

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
