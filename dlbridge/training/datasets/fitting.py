"""Fits a processing on the rows that a model is trained on: means, deviations, the names of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dlbridge.errors import TrainingError, suggest
from dlbridge.model import Model
from dlbridge.processing import Classes, Image, Processing, Standardized
from dlbridge.processing.graph import is_by_number
from dlbridge.training.datasets.binding import found_input, target_of_rows
from dlbridge.training.datasets.prepare import Prepare, PreparedImage, Standardize
from dlbridge.training.datasets.preparing import Preparation
from dlbridge.training.datasets.rows import Arrays, Part
from dlbridge.training.datasets.streams import Batches
from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.spec import TrainingSpec

#: The rows that are looked at together.
CHUNK = 256


def fitted(
    model: Model, spec: TrainingSpec, rows: Part | Batches, labels: Mapping[str, tuple[str, ...]] | None = None
) -> Processing:
    """Fit a processing to the rows that a model is trained on.

    Args:
        model: The model.
        spec: What is prepared, and how.
        rows: The rows to train on.
        labels: The names of the classes of a target, where the data says them.

    Raises:
        TrainingError: When there is no such input, or what the data has cannot be prepared so.
    """
    names = [value.name or "" for value in model.inputs]
    for name in {**spec.prepare, **spec.augment}:
        if name not in names:
            raise TrainingError(f"the model has no input '{name}', which is to be prepared", hint=f"it has: {names}")
    start = Processing(inputs={name: _start(prepare) for name, prepare in spec.prepare.items()})
    counted = [name for name, prepare in spec.prepare.items() if _has_statistics(prepare)]
    preparation = Preparation(model, start)
    inputs = dict(start.inputs)
    if counted:
        for name, (mean, std) in _statistics(model, spec, rows, preparation, counted).items():
            found = inputs[name].model_copy(update={"mean": mean, "std": std})
            if isinstance(found, Standardized):
                _check_columns(model, name, found)
            inputs[name] = found
    outputs = {}
    targets = [_target(model, spec, loss, rows) for loss in spec.losses]
    _check_named(spec, targets)
    for loss, target in zip(spec.losses, targets, strict=True):
        texts = _labels(spec, target, rows, labels or {})
        if texts is not None:
            outputs[loss.of or model.outputs[0].name or ""] = _classes(model, loss, texts)
    return Processing(inputs=inputs, outputs=outputs)


def _start(prepare: Prepare) -> Image | Standardized:
    """The processing before anything is fitted to data."""
    if isinstance(prepare, PreparedImage):
        return Image(**prepare.model_dump(exclude={"kind", "normalize"}))
    return Standardized(kind="standardized", mean=(0.0,))


def _has_statistics(prepare: Prepare) -> bool:
    return isinstance(prepare, Standardize) or prepare.normalize


# --- inputs -----------------------------------------------------------------------------------------------------------


def _statistics(
    model: Model, spec: TrainingSpec, rows: Part | Batches, preparation: Preparation, names: list[str]
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Mean and deviation of each column, or channel, of inputs, in float64."""
    totals: dict[str, _Moments] = {name: _Moments() for name in names}
    for arrays in _chunks(rows):
        for name, moments in totals.items():
            array, _ = found_input(model, arrays, name, spec)
            if array.dtype.kind not in "biufO":
                raise TrainingError(f"'{name}' holds no numbers, it has dtype {array.dtype}")
            array = preparation.resized(name, array)
            is_image = isinstance(preparation.processing.inputs[name], Image)
            moments.add(np.moveaxis(array, preparation.channel_axis(name), -1) if is_image else array)
    return {name: moments.numbers(name) for name, moments in totals.items()}


def _check_columns(model: Model, name: str, spec: Standardized) -> None:
    """Check that the graph of the exported model can do what is done with the data here.

    Raises:
        TrainingError: When the columns of the data are neither the last axis of the input nor the numbers of its rows.
    """
    shape = next(value.shape for value in model.inputs if value.name == name)
    if shape is None or not isinstance(shape[-1], int):
        return
    if len(spec.mean) not in (1, shape[-1]) and not is_by_number(spec, list(shape)):
        raise TrainingError(
            f"the data of '{name}' has {len(spec.mean)} columns, which are not the last axis of the input {shape}",
            where=model.name,
            hint="give the data in the shape of the input, or its rows flat",
        )


class _Moments:
    """The mean and the sum of squared deviations of columns, over chunks. Source: Chan et al., 1979."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, array: np.ndarray) -> None:
        x = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1).astype(np.float64)
        count = self.count + len(x)
        mean = x.mean(0)
        step = mean - self.mean
        self.squares = self.squares + ((x - mean) ** 2).sum(0) + step**2 * self.count * len(x) / count
        self.mean = self.mean + step * len(x) / count
        self.count = count

    def numbers(self, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not self.count:
            raise TrainingError("the data has no rows")
        if not np.isfinite(self.mean).all():
            raise TrainingError("the data is infinite or NaN, so that it has no mean", where=name)
        std = np.sqrt(self.squares / self.count)
        std = np.where(std > 1e-12 * np.abs(self.mean), std, 1.0)  # of a column that never changes, rounding is left
        return tuple(np.atleast_1d(self.mean).tolist()), tuple(np.atleast_1d(np.where(std == 0, 1.0, std)).tolist())


def _chunks(rows: Part | Batches) -> Iterator[Arrays]:
    return iter(rows) if isinstance(rows, Batches) else rows.chunks(CHUNK)


# --- classes ----------------------------------------------------------------------------------------------------------


def _check_named(spec: TrainingSpec, targets: Sequence[str]) -> None:
    """Check that the specification names the classes of targets alone."""
    others = [name for name in spec.labels if name not in targets]
    if others:
        raise TrainingError(
            f"'labels' names the classes of '{others[0]}', which is the target of no loss",
            hint=suggest(others[0], targets) or f"targets: {', '.join(targets)}",
        )


def _labels(
    spec: TrainingSpec, target: str, rows: Part | Batches, known: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...] | None:
    """The names of the classes of a target; None where it is numbers without names."""
    if isinstance(rows, Batches):
        return spec.labels.get(target)
    if target in spec.labels or target in known:
        return spec.labels.get(target, known.get(target))
    first = rows.rows.take(rows.numbers[:1]).get(target)
    if first is None or not _is_text(first):
        return None
    texts = rows.column(target)
    missing = [place for place, text in enumerate(texts.reshape(len(texts), -1)) if not all(map(_is_name, text))]
    if missing:
        raise TrainingError(
            f"the target is missing in row {rows.numbers[missing[0]]}",
            where=target,
            hint="leave the row out, or give it a name of a class",
        )
    return tuple(sorted({str(text) for text in texts.reshape(-1)}))


def _target(model: Model, spec: TrainingSpec, loss: LossPart, rows: Part | Batches) -> str:
    if isinstance(rows, Batches):
        return loss.target or "label"
    return target_of_rows(model, spec, loss, rows.rows.take(rows.numbers[:1]))


def _is_text(array: np.ndarray) -> bool:
    """Whether an array holds texts; some may be missing."""
    if array.dtype != object:
        return array.dtype.kind == "U"
    return all(isinstance(x, str) or x is None or x != x for x in array.reshape(-1) if not isinstance(x, np.ndarray))


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _classes(model: Model, loss: LossPart, labels: tuple[str, ...]) -> Classes:
    output = next(value for value in model.outputs if loss.of in (None, value.name))
    if loss.kind != "classes":
        raise TrainingError(
            f"the target is names of classes, which {loss.op} does not take",
            hint="SparseCategoricalCrossentropy and SoftmaxCrossEntropyLoss do; else give numbers",
        )
    if output.shape is None or len(output.shape) != 2:
        raise TrainingError(f"names of classes are one for each row, the output '{output.name}' is {output.shape}")
    count = output.shape[1]
    if isinstance(count, int) and count != len(labels):
        raise TrainingError(
            f"the output '{output.name}' has {count} classes, the rows that are trained on {len(labels)}: "
            f"{', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}",
            hint="say the names of all classes, in their order, in 'labels'",
        )
    is_logits = loss.reads_logits or loss.ending is None
    return Classes(softmax=is_logits, labels=labels)
