"""Checks the target of a loss, before anything is trained: its shape, dtype and numbers must suit output and loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.training.formulas.loss_part import LossPart

Sizes = list[int | None]


def fit_target(target: np.ndarray, model: Model, loss: LossPart, dims: Mapping[str, int]) -> np.ndarray:
    """Convert the target to what the loss expects: class numbers as int64, all else in the output's shape and dtype.

    Args:
        target: The array from the data.
        model: The model whose output the target is compared with.
        loss: The loss, which names its output.
        dims: The named sizes of the inputs.

    Raises:
        TrainingError: When its shape or its numbers cannot be right.
    """
    output = next(v for v in model.outputs if loss.of in (None, v.name))
    if output.shape is None or output.dtype is None:
        return target
    if not output.dtype.is_floating_point():
        raise TrainingError(f"the output '{output.name}' is {output.dtype.name.lower()}, which has no gradient")
    if len(output.shape) == 0:
        raise TrainingError(f"the output '{output.name}' has no rows that a loss could be the mean of")
    if not np.isfinite(target).all():
        raise TrainingError(f"the target is {_first(target, ~np.isfinite(target))}")
    sizes: Sizes = [None, *(_size(d, dims) for d in list(output.shape)[1:])]
    axis = loss.class_axis
    if loss.kind == "own":  # its shape is the function's business
        return np.ascontiguousarray(target, output.dtype.numpy() if target.dtype.kind == "f" else np.int64)
    if loss.kind == "groups":
        return _groups(target)
    if loss.kind == "labels":
        return _labels(target, output, sizes, loss)
    if loss.kind == "classes":
        _check_class_weights(loss, sizes, output)
        takes_rows = loss.op != "SparseCategoricalCrossentropy"
        if not (takes_rows and _has_rows(target, sizes, axis)):
            return _class_numbers(target, output, sizes, axis, loss)
    if loss.kind == "probabilities":
        _check_class_weights(loss, sizes, output)
        _refuse_class_numbers(target, output, sizes, loss.op)
    target = _in_shape(target, output, sizes)
    if loss.kind in ("classes", "probabilities"):
        target = _probabilities(target, output, axis)
    elif loss.kind == "shares":
        target = _shares(target, output)
    elif loss.kind == "signs":
        target = _signs(target, output)
    return _in_dtype(target, output.dtype.numpy())


def _size(dim: int | ir.SymbolicDim, dims: Mapping[str, int]) -> int | None:
    return dim if isinstance(dim, int) else dims.get(dim.value or "")


# --- classes ------------------------------------------------------------------------------------------------------


def _has_rows(target: np.ndarray, sizes: Sizes, axis: int) -> bool:
    """Whether the target has a row of probabilities where the output has the classes."""
    return target.ndim == len(sizes) > 1 and not _is_column(target, sizes, axis)


def _check_class_weights(loss: LossPart, sizes: Sizes, output: ir.Value) -> None:
    weights = getattr(loss, "class_weights", None)
    classes = sizes[loss.class_axis] if len(sizes) > 1 else None
    if weights is not None and classes not in (None, len(weights)):
        raise TrainingError(f"there are {len(weights)} class_weights for the {classes} classes of '{output.name}'")


def _class_numbers(target: np.ndarray, output: ir.Value, sizes: Sizes, axis: int, loss: LossPart) -> np.ndarray:
    if len(sizes) < 2:
        raise TrainingError(f"the loss is of classes, the output '{output.name}' {output.shape} has no axis of them")
    places = list(sizes)
    classes = places.pop(axis)
    if _is_column(target, sizes, axis):
        target = target.squeeze(axis)
    if not _has_sizes(target, places):
        raise TrainingError(
            f"the labels have shape {target.shape}, the classes of '{output.name}' {output.shape} are its axis {axis}",
            hint="SparseCategoricalCrossentropy has the classes on the last axis, SoftmaxCrossEntropyLoss on axis 1; "
            "CategoricalCrossentropy takes a row of probabilities for each place",
        )
    right = (target >= 0) & (target == np.floor(target))
    right &= target < classes if classes is not None else True
    ignored = getattr(loss, "ignore_index", None)
    right |= target == ignored if ignored is not None else False
    if not right.all():
        known = f"the {classes} classes" if classes is not None else "the classes"
        raise TrainingError(
            f"the label {_first(target, ~right)} is none of {known} of '{output.name}'",
            hint=f"class numbers go from 0 to {classes - 1}" if classes is not None else "class numbers count from 0",
        )
    return np.ascontiguousarray(target, np.int64)


def _is_column(target: np.ndarray, sizes: Sizes, axis: int) -> bool:
    """Whether a target of class numbers has an axis of one where the output has the classes."""
    return target.ndim == len(sizes) and target.shape[axis] == 1 != sizes[axis]


def _refuse_class_numbers(target: np.ndarray, output: ir.Value, sizes: Sizes, op: str) -> None:
    if target.ndim == len(sizes) - 1 or (target.ndim == len(sizes) and target.shape[-1] == 1 != sizes[-1]):
        raise TrainingError(
            f"the target has shape {target.shape}, class numbers it seems; {op} compares "
            f"probabilities of the shape of '{output.name}' {output.shape}",
            hint="SparseCategoricalCrossentropy takes class numbers; or give a row of 0 and 1 for each",
        )


def _probabilities(target: np.ndarray, output: ir.Value, axis: int) -> np.ndarray:
    target = _shares(target, output)
    total = target.sum(axis, dtype=np.float64)
    wrong = np.abs(total - 1) > (1e-3 if target.dtype.itemsize > 2 else 2e-2)
    if wrong.any():
        raise TrainingError(
            f"the probabilities of the target add up to {_first(total, wrong)}, not to 1",
            hint="BinaryCrossentropy takes several classes that are right at once",
        )
    return target


# --- groups and sequences -------------------------------------------------------------------------------------------


def _groups(target: np.ndarray) -> np.ndarray:
    """The class of each row, which is compared with others alone."""
    target = target.reshape(len(target), -1)
    if target.shape[1] != 1:
        raise TrainingError(f"the target has shape {target.shape}, and is one class number for each row")
    return np.unique(target, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _labels(target: np.ndarray, output: ir.Value, sizes: Sizes, loss: LossPart) -> np.ndarray:
    """Labels of sequences, -1 after their end."""
    if len(sizes) != 3 or target.ndim != 2:
        raise TrainingError(
            f"the target has shape {target.shape}, the output '{output.name}' {output.shape}",
            hint="the output is (batch, time, classes), the target (batch, labels), -1 after the end of a sequence",
        )
    wrong = (target != np.floor(target)) | (target < -1) | (target >= (sizes[2] or np.inf))
    wrong[:, 1:] |= (target[:, :-1] < 0) & (target[:, 1:] >= 0)
    if wrong.any():
        raise TrainingError(f"the label {_first(target, wrong)} is no class, or comes after the end of its sequence")
    _check_alignment(target, sizes[1], getattr(loss, "blank", None))
    return np.ascontiguousarray(target, np.int64)


def _check_alignment(target: np.ndarray, steps: int | None, blank: int | None) -> None:
    """Check that labels can be aligned with the steps of an output: equal neighbours need a blank between them, and
    none is the blank itself."""
    if (target == blank).any():
        raise TrainingError(
            f"the label {_first(target, target == blank)} is the class that stands for no label",
            hint="labels are other classes than 'blank', -1 after the end of a sequence",
        )
    needed = (target >= 0).sum(1) + ((target[:, 1:] == target[:, :-1]) & (target[:, 1:] >= 0)).sum(1)
    if steps is not None and (needed > steps).any():
        row = int(np.argmax(needed > steps))
        raise TrainingError(
            f"the labels of row {row} need {needed[row]} steps, the output has {steps}: their loss is infinite",
            hint="a step for each label, and one between two that are equal",
        )


# --- numbers ------------------------------------------------------------------------------------------------------


def _signs(target: np.ndarray, output: ir.Value) -> np.ndarray:
    """-1 and 1; 0 is taken as -1 where there is no -1."""
    wrong = ~np.isin(target, (-1, 0, 1))
    if wrong.any() or {-1, 0} <= set(np.unique(target).tolist()):
        told = _first(target, wrong) if wrong.any() else "-1, 0 and 1"
        raise TrainingError(f"the target of '{output.name}' is {told}, and is -1 and 1, or 0 and 1, for this loss")
    return np.where(target > 0, 1, -1)


def _shares(target: np.ndarray, output: ir.Value) -> np.ndarray:
    """Numbers from 0 to 1."""
    wrong = (target < 0) | (target > 1)
    if wrong.any():
        raise TrainingError(
            f"the target of '{output.name}' is {_first(target, wrong)}, and goes from 0 to 1 for this loss",
            hint="labels of two classes are 0 and 1",
        )
    return target


def _in_shape(target: np.ndarray, output: ir.Value, sizes: Sizes) -> np.ndarray:
    """The target in the output's shape; axes of one may be missing or too many."""
    if not _has_sizes(target, sizes):
        wanted = [size for size in sizes[1:] if size != 1]
        given = [size for size in target.shape[1:] if size != 1]
        if None in wanted or given != wanted:
            raise TrainingError(
                f"the target has shape {target.shape}, the output '{output.name}' {output.shape}",
                hint="each number of the output is compared with one of the target",
            )
        target = target.reshape(len(target), *(size or 1 for size in sizes[1:]))
    return target


def _in_dtype(target: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        fitted = np.ascontiguousarray(target, dtype)
    if not np.isfinite(fitted).all():
        raise TrainingError(f"the target is {_first(target, ~np.isfinite(fitted))}, too large for {dtype}")
    return fitted


def _has_sizes(target: np.ndarray, sizes: Sizes) -> bool:
    if target.ndim != len(sizes):
        return False
    return all(size in (None, given) for size, given in zip(sizes[1:], target.shape[1:], strict=True))


def _first(array: np.ndarray, wrong: np.ndarray) -> str:
    """The first number that is wrong, and its row."""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{array[index]} in row {index[0]}" if index else str(array)
