"""The training section of a description: loss, optimizer, metrics, epochs, batches."""

from __future__ import annotations

import keyword
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_identifier(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError("the printed code uses it as a variable, so it must be an identifier")
    return text


# --- losses --------------------------------------------------------------------------------------------------------


class _Loss(_Part):
    """All losses are the mean over the batch and over all further axes of the output, if any. The classes are on the
    last axis, except for the standard's own loss."""

    of: str | None = Field(None, description="The output that the loss reads; needed where there are several.")
    target: Annotated[str, AfterValidator(_is_identifier)] | None = Field(
        None, description="Name of the target in the data. Default: 'label', or the only array that is not an input."
    )


class SoftmaxCrossEntropyLoss(_Loss):
    """Cross-entropy of logits (batch, classes, ...): ``-log softmax(x)[label]``; labels are class numbers (batch, ...),
    or probabilities of the logits' shape.

    Source: the ONNX operator SoftmaxCrossEntropyLoss, reduction mean.
    """

    op: Literal["SoftmaxCrossEntropyLoss"]


class SparseCategoricalCrossentropy(_Loss):
    """Cross-entropy of probabilities (batch, ..., classes) with class numbers: ``-log p[label]``; or of logits.

    Computed from the logits where the model ends in a Softmax; else p is kept within [1e-7, 1 - 1e-7], as Keras does.
    Source: ``keras.losses.SparseCategoricalCrossentropy``.
    """

    op: Literal["SparseCategoricalCrossentropy"]
    from_logits: bool = False


class CategoricalCrossentropy(_Loss):
    """Cross-entropy of probabilities (batch, ..., classes) with others: ``-sum t log p``; or of logits.

    Computed as SparseCategoricalCrossentropy is. Source: ``keras.losses.CategoricalCrossentropy``.
    """

    op: Literal["CategoricalCrossentropy"]
    from_logits: bool = False


class BinaryCrossentropy(_Loss):
    """``-(t log p + (1 - t) log(1 - p))``, of probabilities or of logits.

    Source: ``keras.losses.BinaryCrossentropy``; from logits as ``max(x, 0) - x t + log(1 + exp(-|x|))``.
    """

    op: Literal["BinaryCrossentropy"]
    from_logits: bool = False


class MeanSquaredError(_Loss):
    """``(x - t)^2``."""

    op: Literal["MeanSquaredError"]


class MeanAbsoluteError(_Loss):
    """``|x - t|``."""

    op: Literal["MeanAbsoluteError"]


class Huber(_Loss):
    """``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``, with ``e = x - t``.

    Source: Huber, Robust Estimation of a Location Parameter, 1964.
    """

    op: Literal["Huber"]
    delta: float = Field(1.0, gt=0)


Loss = Annotated[
    SoftmaxCrossEntropyLoss
    | SparseCategoricalCrossentropy
    | CategoricalCrossentropy
    | BinaryCrossentropy
    | MeanSquaredError
    | MeanAbsoluteError
    | Huber,
    Field(discriminator="op"),
]

# --- optimizers ----------------------------------------------------------------------------------------------------


class _Optimizer(_Part):
    learning_rate: float = Field(0.001, gt=0)

    @property
    def slots(self) -> set[str]:
        """The names under which checkpoints have the optimizer's state, one array for each trained weight."""
        return {"m", "v"}


class SGD(_Optimizer):
    """``v = momentum v + g``; ``w -= lr v``, with Nesterov ``w -= lr (g + momentum v)``.

    Source: ``torch.optim.SGD``. (Keras keeps ``-lr v``; for a constant learning rate it is the same.)
    """

    kind: Literal["sgd"]
    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    nesterov: bool = False

    @property
    def slots(self) -> set[str]:
        return {"momentum"} if self.momentum else set()

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum larger than 0")
        return self


class Adam(_Optimizer):
    """``m = b1 m + (1 - b1) g``; ``v = b2 v + (1 - b2) g^2``; ``w -= lr m' / (sqrt(v') + eps)``, with the moments
    corrected for their start at zero: ``m' = m / (1 - b1^t)``, ``v' = v / (1 - b2^t)``.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1 (as ``torch.optim.Adam``).
    """

    kind: Literal["adam"]
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-7, gt=0)


class AdamW(_Optimizer):
    """Adam, with ``w -= lr weight_decay w`` before each step, for every trained weight.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2019 (as ``torch.optim.AdamW``).
    """

    kind: Literal["adamw"]
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-7, gt=0)
    weight_decay: float = Field(0.004, ge=0)


Optimizer = Annotated[SGD | Adam | AdamW, Field(discriminator="kind")]

# --- all of it -----------------------------------------------------------------------------------------------------

#: Accuracy is the share of rows whose largest output is the right class; for a binary cross-entropy, the share of
#: numbers on the right side of the threshold.
Metric = Literal["accuracy", "mean_absolute_error", "mean_squared_error"]


class TrainingSpec(_Part):
    """The training section of a description."""

    loss: Loss
    optimizer: Optimizer = Adam(kind="adam")
    metrics: tuple[Metric, ...] = ()
    epochs: int = Field(1, ge=1, lt=2**31)
    batch_size: int = Field(32, ge=1, lt=2**31)
    validation_split: float = Field(
        0.0, ge=0, lt=1, description="Share of the data, taken from its end, to validate on."
    )
    shuffle: bool = True
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _accuracy_needs_classes(self) -> TrainingSpec:
        if "accuracy" in self.metrics and not self.loss.op.lower().endswith(("crossentropy", "crossentropyloss")):
            raise ValueError(f"accuracy is of classes, {self.loss.op} has none")
        return self
