"""The metrics, each by one definition: sums over batches, which a framework computes, and a number from the sums.

So the number of an epoch is that of all its rows together, however they are divided into batches. The predicted class
is that of the largest output; for two classes at one output, it is 1 above the threshold (0 for logits, else 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, WrapSerializer

from dlbridge.errors import TrainingError
from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.parts import Ops, Part, Tensor, by_name, of_name

Sums = dict[str, Tensor]
Totals = Mapping[str, np.ndarray]
#: The sizes of an output, None where they are free.
Shape = Sequence[int | None]
#: The number of equal parts of the probabilities in which ``AUC`` counts.
BINS = 1000


class _Metric(Part):
    of: str | None = Field(None, description="The output it is of; that of the first loss when None.")

    kind: str
    #: The kinds of targets that it can be computed of (``LossPart.kind``), and what they are, in words.
    of_kinds: ClassVar[tuple[str, ...]] = ("classes", "probabilities", "shares", "signs")
    of_what: ClassVar[str] = "classes"

    @property
    def name(self) -> str:
        """The name in the history."""
        return self.kind if self.of is None else f"{self.of}_{self.kind}"

    #: Whether it reads the numbers that the model returns, where the loss is computed of its logits.
    of_returned: ClassVar[bool] = False

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        """The shapes of the sums; ``shape`` is that of the output."""
        raise NotImplementedError

    def check(self, shape: Shape, loss: LossPart) -> None:
        """Check that it says something of an output of this shape.

        Raises:
            TrainingError: When it does not.
        """

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        """The sums of a batch: ``x`` is the output, ``t`` the target of ``loss``."""
        raise NotImplementedError

    def value(self, sums: Totals, loss: LossPart) -> float:
        """The number of the sums of all batches; ``loss`` is that whose target they are of."""
        raise NotImplementedError


def _classes(x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> tuple[Tensor, Tensor, Tensor | None]:
    """Class numbers of the output and of the target, flat, and 0 for each that is ignored; None where none is. What is
    ignored may be no class (255): its number becomes 0."""
    if loss.kind in ("shares", "signs"):
        threshold = 0.0 if loss.reads_logits or loss.kind == "signs" else 0.5
        return ops.reshape(x > threshold, (-1,)), ops.reshape(t > (0.0 if loss.kind == "signs" else 0.5), (-1,)), None
    t = ops.argmax(t, axis=loss.class_axis) if len(t.shape) == len(x.shape) else t
    predicted, right = ops.reshape(ops.argmax(x, axis=loss.class_axis), (-1,)), ops.reshape(t, (-1,))
    ignored = getattr(loss, "ignore_index", None)
    if ignored is None:
        return predicted, ops.cast(right, predicted), None
    is_ignored = right == ignored
    right = ops.where(is_ignored, ops.zeros_like(right), right)
    return predicted, ops.cast(right, predicted), ops.cast(~is_ignored, x)


class Accuracy(_Metric):
    """The share of places whose class is right."""

    kind: Literal["accuracy"] = "accuracy"

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        return {"right": (), "count": ()}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        predicted, right, read = _classes(x, t, loss, ops)
        same = ops.count(predicted == right)
        if read is None:
            return {"right": ops.sum(same), "count": ops.size(same)}
        read = ops.count(read)
        return {"right": ops.sum(same * read), "count": ops.sum(read)}

    def value(self, sums: Totals, loss: LossPart) -> float:
        return _share(sums["right"], sums["count"])


class TopK(_Metric):
    """The share of places where fewer than ``k`` classes have a larger output than the right one."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(5, ge=1)

    @property
    def name(self) -> str:
        return super().name.replace("top_k", f"top_{self.k}")

    def check(self, shape: Shape, loss: LossPart) -> None:
        count = shape[loss.class_axis] if len(shape) > 1 else None
        if count is not None and self.k > count:
            raise TrainingError(f"{self.name} of {count} classes is always 1", hint="say a smaller k")

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        return {"right": (), "count": ()}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        t = ops.argmax(t, axis=loss.class_axis) if len(t.shape) == len(x.shape) else t
        x = ops.moveaxis(x, loss.class_axis, -1)
        ignored = getattr(loss, "ignore_index", None)
        read = ops.count(t != ignored) if ignored is not None else None
        labels = t if read is None else ops.where(read > 0, t, ops.zeros_like(t))
        of_label = ops.expand_dims(ops.pick(x, labels), -1)
        right = ops.count(ops.sum(ops.count(x > of_label), axis=-1) < self.k)
        if read is None:
            return {"right": ops.sum(right), "count": ops.size(right)}
        return {"right": ops.sum(right * read), "count": ops.sum(read)}

    def value(self, sums: Totals, loss: LossPart) -> float:
        return _share(sums["right"], sums["count"])


class _OfClasses(_Metric):
    """Metrics computed from counts of each class: how often it is predicted, how often it is right, how often both."""

    average: Literal["macro", "binary"] | None = Field(
        None,
        description="'macro': the mean over the classes that occur; 'binary': that of class 1, the default where "
        "one number of the output stands for two classes.",
    )

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        classes = (_class_count(shape, loss),)
        return {"both": classes, "predicted": classes, "right": classes}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        predicted, right, read = _classes(x, t, loss, ops)
        count = _class_count(list(x.shape), loss)
        predicted, right = ops.one_hot(predicted, count), ops.one_hot(right, count)
        if read is not None:
            read = ops.expand_dims(ops.count(read), -1)
            predicted, right = predicted * read, right * read
        sums = {"both": predicted * right, "predicted": predicted, "right": right}
        return {name: ops.sum(array, axis=0) for name, array in sums.items()}

    def by_class(self, sums: Totals) -> np.ndarray:
        """The metric of each class; NaN where it is not defined."""
        raise NotImplementedError

    def value(self, sums: Totals, loss: LossPart) -> float:
        numbers, occurs = np.nan_to_num(self.by_class(sums)), (sums["predicted"] + sums["right"]) > 0
        if self.average == "binary" or (self.average is None and loss.kind in ("shares", "signs")):
            return float(numbers[1])
        return float(numbers[occurs].mean()) if occurs.any() else 0.0


class Precision(_OfClasses):
    """The share of right ones among the places where a class is predicted; 0 where it never is."""

    kind: Literal["precision"] = "precision"

    def by_class(self, sums: Totals) -> np.ndarray:
        return _shares(sums["both"], sums["predicted"])


class Recall(_OfClasses):
    """The share of the places of a class where it is predicted; 0 where there are none."""

    kind: Literal["recall"] = "recall"

    def by_class(self, sums: Totals) -> np.ndarray:
        return _shares(sums["both"], sums["right"])


class F1(_OfClasses):
    """``2 both / (predicted + right)`` of each class: the harmonic mean of precision and recall."""

    kind: Literal["f1"] = "f1"

    def by_class(self, sums: Totals) -> np.ndarray:
        return _shares(2 * sums["both"], sums["predicted"] + sums["right"])


class IoU(_OfClasses):
    """``both / (predicted + right - both)`` of each class: intersection over union."""

    kind: Literal["iou"] = "iou"

    def by_class(self, sums: Totals) -> np.ndarray:
        return _shares(sums["both"], sums["predicted"] + sums["right"] - sums["both"])


class AUC(_Metric):
    """The area under the ROC curve of two classes at one output, by trapezoids over 1,000 parts of probability."""

    kind: Literal["auc"] = "auc"
    of_kinds: ClassVar[tuple[str, ...]] = ("shares", "signs")
    of_what: ClassVar[str] = "two classes at one output"

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        return {"ones": (BINS,), "zeros": (BINS,)}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        p = ops.reshape(ops.sigmoid(x) if loss.reads_logits or loss.kind == "signs" else x, (-1,))
        place = ops.one_hot(ops.integer(ops.minimum(ops.maximum(p * BINS, 0.0), BINS - 1.0)), BINS)
        one = ops.expand_dims(ops.count(ops.reshape(t, (-1,)) > (0.0 if loss.kind == "signs" else 0.5)), -1)
        return {"ones": ops.sum(place * one, axis=0), "zeros": ops.sum(place * (1 - one), axis=0)}

    def value(self, sums: Totals, loss: LossPart) -> float:
        ones, zeros = (np.concatenate([[0.0], np.cumsum(sums[name][::-1])]) for name in ("ones", "zeros"))
        if not ones[-1] or not zeros[-1]:
            return float("nan")
        return float(np.trapezoid(ones / ones[-1], zeros / zeros[-1]))


class _OfNumbers(_Metric):
    """Metrics of the numbers of an output, each with the number of the target in its place."""

    of_kinds: ClassVar[tuple[str, ...]] = ("numbers", "probabilities", "shares", "signs", "own")
    of_what: ClassVar[str] = "numbers as the output has"
    of_returned: ClassVar[bool] = True

    def _pair(self, x: Tensor, t: Tensor, ops: Ops) -> tuple[Tensor, Tensor]:
        """Output and target in the type of sums. A loss of one's own may take any target: unlike shapes would be
        broadcast, and each number be compared with others than its own.

        Raises:
            TrainingError: When the target has not the output's shape.
        """
        given, wanted = list(t.shape[1:]), list(x.shape[1:])
        known = [(a, b) for a, b in zip(given, wanted, strict=False) if a is not None and b is not None]
        if len(given) != len(wanted) or any(a != b for a, b in known):
            raise TrainingError(
                f"{self.name} compares numbers one by one: a row of the output has the shape {wanted}, "
                f"one of the target {given}"
            )
        return ops.sum_type(x), ops.sum_type(t)


class _OfErrors(_OfNumbers):
    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        return {"error": (), "count": ()}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        x, t = self._pair(x, t, ops)
        error = self._error(x - t, ops)
        return {"error": ops.sum(error), "count": ops.size(error)}

    def _error(self, e: Tensor, ops: Ops) -> Tensor:
        return e * e

    def value(self, sums: Totals, loss: LossPart) -> float:
        return _share(sums["error"], sums["count"])


class MAE(_OfErrors):
    """The mean of ``|x - t|``."""

    kind: Literal["mean_absolute_error"] = "mean_absolute_error"

    def _error(self, e: Tensor, ops: Ops) -> Tensor:
        return ops.abs(e)


class MSE(_OfErrors):
    """The mean of ``(x - t)^2``."""

    kind: Literal["mean_squared_error"] = "mean_squared_error"


class RMSE(_OfErrors):
    """The root of the mean of ``(x - t)^2`` over all rows."""

    kind: Literal["root_mean_squared_error"] = "root_mean_squared_error"

    def value(self, sums: Totals, loss: LossPart) -> float:
        return float(np.sqrt(super().value(sums, loss)))


class R2(_OfNumbers):
    """``1 - sum (x - t)^2 / sum (t - mean t)^2`` of each number of a row, and the mean over these."""

    kind: Literal["r2"] = "r2"

    def sizes(self, shape: Shape, loss: LossPart) -> dict[str, tuple[int, ...]]:
        columns = (_column_count(shape),)
        return {"error": columns, "sum": columns, "squares": columns, "count": ()}

    def sums(self, x: Tensor, t: Tensor, loss: LossPart, ops: Ops) -> Sums:
        columns = _column_count(list(x.shape))
        x, t = (ops.reshape(array, (-1, columns)) for array in self._pair(x, t, ops))
        kept = {"error": (x - t) * (x - t), "sum": t, "squares": t * t}
        return {k: ops.sum(v, axis=0) for k, v in kept.items()} | {"count": ops.size(t[:, 0])}

    def value(self, sums: Totals, loss: LossPart) -> float:
        total = sums["squares"] - sums["sum"] ** 2 / sums["count"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.mean(1 - sums["error"] / total))


def _class_count(shape: Shape, loss: LossPart) -> int:
    """The number of classes of an output."""
    if loss.kind in ("shares", "signs"):
        return 2
    size = shape[loss.class_axis]
    assert size is not None  # a target of classes was checked against it
    return int(size)


def _column_count(shape: Shape) -> int:
    """The number of numbers in a row, on the last axis of an output.

    Raises:
        TrainingError: When it is not fixed.
    """
    size = shape[-1] if len(shape) > 1 else 1
    if size is None:
        raise TrainingError(
            "r2 is of each number of a row, whose count the output does not fix",
            hint="another metric: mean_squared_error",
        )
    return int(size)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part / whole) if whole else float("nan")


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part / whole)


AnyMetric = Accuracy | TopK | Precision | Recall | F1 | IoU | AUC | MAE | MSE | RMSE | R2
METRICS: tuple[type[_Metric], ...] = AnyMetric.__args__
_Tagged = Annotated[AnyMetric, Field(discriminator="kind")]
_Name = Literal[
    "accuracy",
    "top_k",
    "precision",
    "recall",
    "f1",
    "iou",
    "auc",
    "mean_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
    "r2",
]
#: A metric: its settings, or its name alone.
Metric = Annotated[
    AnyMetric,
    Field(discriminator="kind"),
    BeforeValidator(of_name, json_schema_input_type=_Name | _Tagged),
    WrapSerializer(by_name),
]
