"""What all losses share: how the losses of all places are reduced to one, and functions that several formulas use."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from dlbridge.training.parts import Identifier, Ops, Part, Tensor

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken (as Keras does).
PROBABILITY_MARGIN = 1e-7
#: The smallest length of a vector that is divided by it.
SMALLEST_LENGTH = 1e-12


class LossPart(Part):
    """What all losses have: their output, their target, and how the numbers of the places become one.

    ``reduction`` is of the numbers ``l`` of all places and their weights ``w``, 1 where nothing says otherwise:
    ``mean`` is ``sum(w l) / sum(w)``, ``mean_by_count`` ``sum(w l)`` by the number of places, ``sum`` is ``sum(w l)``.
    """

    of: str | None = Field(None, description="The output that the loss reads; needed where there are several.")
    target: Identifier | None = Field(
        None, description="Name of the target in the data. Default: 'label', or the only array that is not an input."
    )
    weight: float = Field(1.0, gt=0, description="Factor on this loss, where there are several.")
    sample_weight: Identifier | None = Field(None, description="Name of the data's weight of each row.")
    reduction: Literal["mean", "mean_by_count", "sum"] = "mean"

    #: What the target is: "numbers" as the output has, "classes" or rows of "probabilities", "shares" from 0 to 1,
    #: "signs" (0 and 1, or -1 and 1), "labels" of sequences, "groups" of the rows.
    kind: ClassVar[str] = "numbers"
    #: The axis of the classes.
    class_axis: ClassVar[int] = -1
    #: The op that makes what the loss reads of logits: a model that ends in it is trained without it.
    ending: ClassVar[str | None] = None

    op: str

    @property
    def reads_logits(self) -> bool:
        """Whether the output is logits."""
        return bool(getattr(self, "from_logits", False))

    def places(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor:
        """The loss of each place."""
        raise NotImplementedError

    def weights(self, x: Tensor, t: Tensor, ops: Ops) -> Tensor | None:
        """The weight of each place; None where all are 1."""
        return None

    def value(self, x: Tensor, t: Tensor, rows: Tensor | None, ops: Ops) -> Tensor:
        """The loss of a batch.

        Args:
            x: The output.
            t: The target.
            rows: The weight of each row, if any.
            ops: The framework's functions.
        """
        losses, weights = self.places(x, t, ops), self.weights(x, t, ops)
        if rows is not None:
            rows = ops.reshape(rows, (-1, *(1 for _ in losses.shape[1:])))
            weights = rows * (ops.ones_like(losses) if weights is None else weights)
        if weights is None:
            return ops.sum(losses) if self.reduction == "sum" else ops.mean(losses)
        total = ops.sum(weights * losses)
        if self.reduction == "sum":
            return total
        count = ops.sum(weights if self.reduction == "mean" else ops.ones_like(losses))
        return total / ops.where(count == 0, ops.ones_like(count), count)


def within_margin(p: Tensor, ops: Ops) -> Tensor:
    """Probabilities whose logarithm is finite."""
    return ops.minimum(ops.maximum(p, PROBABILITY_MARGIN), 1 - PROBABILITY_MARGIN)


def ended(x: Tensor, ending: str | None, ops: Ops) -> Tensor:
    """What the op that a model ends in makes of logits; see ``LossPart.ending``."""
    if ending == "Sigmoid":
        return ops.sigmoid(x)
    if ending == "Softmax":
        return ops.exp(ops.log_softmax(x, axis=-1))
    return x


def softplus(x: Tensor, ops: Ops) -> Tensor:
    """``log(1 + exp(x))``."""
    return ops.maximum(x, 0.0) + ops.log1p(ops.exp(-ops.abs(x)))


def power(x: Tensor, exponent: float, ops: Ops) -> Tensor:
    """``x^exponent`` of numbers from 0 to 1; its gradient is 0 at 0."""
    if exponent == 2:
        return x * x
    is_zero = x <= 0
    return ops.where(
        is_zero, ops.zeros_like(x) if exponent else ops.ones_like(x), ops.where(is_zero, 1 - x, x) ** exponent
    )


def length(x: Tensor, ops: Ops) -> Tensor:
    return ops.sqrt(ops.maximum(ops.sum(x * x, axis=-1), SMALLEST_LENGTH**2))
