"""Finds an array of the data for each input and each target of a model, and checks that it fits."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from dlbridge.errors import SignatureError, TrainingError, suggest
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.training.data import Dataset
from dlbridge.training.datasets.rows import Arrays
from dlbridge.training.datasets.targets import fit_target
from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.spec import TrainingSpec


class Before(Protocol):
    """How the arrays of the data become what a model takes."""

    def input(self, name: str, array: np.ndarray) -> np.ndarray:
        """An input, as the model takes it."""
        ...

    def target(self, loss: LossPart, array: np.ndarray) -> np.ndarray:
        """A target, as numbers."""
        ...


def bind(model: Model, spec: TrainingSpec, arrays: Mapping[str, np.ndarray], before: Before | None = None) -> Dataset:
    """Find an array for each input and one for each target, and give them the dtypes that the model expects.

    If the data has columns in place of an input's array, as CSV files do, ``image_0, image_1, ...`` or
    ``image.0, image.1, ...`` are stacked in the order of their numbers; a model of one input takes all columns that are
    left, in their order, where none has its name.

    Raises:
        TrainingError: When an input or the target is missing, is not numeric or cannot be right, or when lengths
            differ.
        SignatureError: When an array does not have its input's shape, or has numbers that its dtype cannot represent.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    dims: dict[str, int] = {}
    inputs, used = _bound_inputs(model, arrays, dims, spec, before)
    target_names = tuple(target_name(arrays, spec, loss, used) for loss in spec.losses)
    targets = [_numbers(arrays[n], n, loss, before) for n, loss in zip(target_names, spec.losses, strict=True)]
    weights = [_row_weights(arrays, loss) for loss in spec.losses]
    named = {w: array for loss, array in zip(spec.losses, weights, strict=True) if (w := loss.sample_weight)}
    found = {**inputs, **named} | {f"target {i + 1}": t for i, t in enumerate(targets[1:])} | {"target": targets[0]}
    lengths = {name: len(array) if array is not None and array.ndim else 0 for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        raise TrainingError(f"the arrays have different numbers of rows: {lengths}")
    if len(targets[0]) == 0:
        raise TrainingError("the data has no rows")
    _check_places(model, inputs)
    fitted = (fit_target(t, model, loss, dims) for t, loss in zip(targets, spec.losses, strict=True))
    return Dataset(inputs, tuple(fitted), tuple(weights), spec, target_names)


def bind_inputs(model: Model, arrays: Mapping[str, np.ndarray], before: Before | None = None) -> Arrays:
    """Find an array for each input, as :func:`bind` does, where there is no target.

    Raises:
        TrainingError: When an input is missing or is not numeric, or when lengths differ.
        SignatureError: When an array does not fit its input.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    inputs, _ = _bound_inputs(model, arrays, {}, model.training, before)
    lengths = {name: len(array) if array.ndim else 0 for name, array in inputs.items()}
    if len(set(lengths.values())) > 1:
        raise TrainingError(f"the arrays have different numbers of rows: {lengths}")
    return inputs


def _bound_inputs(
    model: Model, arrays: Arrays, dims: dict[str, int], spec: TrainingSpec | None, before: Before | None
) -> tuple[Arrays, set[str]]:
    """The inputs, and the names of the arrays that they come from; ``dims`` gets the values of the named sizes."""
    inputs: Arrays = {}
    used: set[str] = set()
    for value in model.inputs:
        name = value.name or ""
        array, names = found_input(model, arrays, name, spec)
        used |= names
        assert value.dtype is not None and value.shape is not None
        inputs[name] = _fit(array if before is None else before.input(name, array), name, value, dims)
    return inputs, used


def found_input(
    model: Model, arrays: Mapping[str, np.ndarray], name: str, spec: TrainingSpec | None
) -> tuple[np.ndarray, set[str]]:
    """The array of an input as it is in the data, and the names of the arrays that it was put together from.

    Raises:
        TrainingError: When the data has nothing for it.
    """
    if name in arrays:
        return arrays[name], {name}
    columns = [key for key in arrays if re.fullmatch(rf"{re.escape(name)}[_.]\d+", key)]
    if columns:
        columns.sort(key=lambda key: int(key[len(name) + 1 :]))
        return np.stack([arrays[k] for k in columns], axis=1), set(columns)
    wanted, left = _row_size(model), _columns_left(arrays, spec)
    columns = [key for key in left if arrays[key].dtype.kind in "biuf"]
    if wanted == len(columns) and all(arrays[key].ndim == 1 for key in columns):
        return np.stack([arrays[k] for k in columns], axis=1), set(columns)
    hint = suggest(name, arrays) or f"the data has: {_listed(arrays)}"
    if wanted is not None and columns:
        others = [key for key in left if key not in columns]
        hint = f"it takes {wanted} numbers of a row, and {len(columns)} columns that nothing else takes hold numbers"
        hint += f"; {_listed(others)} {'hold' if len(others) > 1 else 'holds'} something else" if others else ""
        hint += "; is one of them the target? say which: loss: {target: NAME}" if len(columns) > wanted else ""
    raise TrainingError(f"the data has nothing for the input '{name}'", hint=hint)


def _row_size(model: Model) -> int | None:
    """The numbers in a row of the only input; None where there are several inputs, or their sizes are free."""
    shape = model.inputs[0].shape if len(model.inputs) == 1 else None
    sizes = None if shape is None else [size for size in list(shape)[1:] if isinstance(size, int)]
    return math.prod(sizes) if shape is not None and sizes is not None and len(sizes) == len(shape) - 1 else None


def taken_by_losses(spec: TrainingSpec | None) -> set[str]:
    """The names of the data that are targets or weights of rows, and no input."""
    losses = spec.losses if spec is not None else ()
    return {name for loss in losses for name in (loss.target or "label", loss.sample_weight) if name is not None}


def _columns_left(arrays: Mapping[str, np.ndarray], spec: TrainingSpec | None) -> list[str]:
    """The columns that are neither target nor weights."""
    taken = taken_by_losses(spec)
    return [name for name in arrays if name not in taken]


def _listed(names: Collection[str], most: int = 8) -> str:
    """Names, separated by commas; of many the first ones."""
    return ", ".join(list(names)[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _numbers(array: np.ndarray, name: str, loss: LossPart, before: Before | None) -> np.ndarray:
    """A target as numbers."""
    array = array if before is None else before.target(loss, array)
    check_numbers(array, name)
    return array


def _row_weights(arrays: Arrays, loss: LossPart) -> np.ndarray | None:
    name = loss.sample_weight
    if name is None:
        return None
    if name not in arrays:
        raise TrainingError(f"the data has no '{name}', the weights of rows", hint=suggest(name, arrays))
    array = arrays[name]
    check_numbers(array, name)
    if array.ndim != 1:
        raise TrainingError(f"the weights of rows have shape {array.shape}, and are one number for each", where=name)
    wrong = ~np.isfinite(array) | (array < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise TrainingError(f"the weight of row {row} is {array[row]}; weights are finite, not negative", where=name)
    return array


def _fit(array: np.ndarray, name: str, value: Any, dims: dict[str, int]) -> np.ndarray:
    """The array of an input in its shape and dtype; ``dims`` gets the values of the named sizes."""
    check_numbers(array, name)
    row = [d if isinstance(d, int) else dims.get(d.value) for d in value.shape][1:]
    sizes = [size for size in row if size is not None]
    if array.ndim == 2 and len(row) != 1 and sizes == row and array.shape[1] == math.prod(sizes):
        array = array.reshape(len(array), *sizes)
    is_like = array.ndim == len(row) + 1 and all(w in (None, s) for w, s in zip(row, array.shape[1:], strict=True))
    if not is_like:
        raise SignatureError(f"the data has shape {array.shape}, the input {value.shape}", where=name)
    for dim, size in zip(list(value.shape)[1:], array.shape[1:], strict=True):
        if not isinstance(dim, int) and dim.value is not None:
            dims[dim.value] = size
    return _in_dtype(array, name, value.dtype.numpy())


def _in_dtype(array: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    """The array in an input's dtype. Integers must be able to hold its numbers: no NaN, no fractions, no overflow."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise TrainingError(f"the data is NaN in row {np.argwhere(np.isnan(array))[0][0]}", where=name)
    if dtype == array.dtype:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = np.ascontiguousarray(array, dtype)
    wrong = fitted != array if dtype.kind in "biu" else np.isfinite(fitted) != np.isfinite(array)
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0])
        raise SignatureError(
            f"the input is {dtype}, which cannot hold the {array[index]} in row {index[0]}", where=name
        )
    return fitted


def _check_places(model: Model, inputs: Arrays) -> None:
    """Check that inputs that say which rows of a table are looked up say rows that it has: at others one framework
    stops, one goes on with NaN, one counts negative ones from the end.

    Raises:
        SignatureError: When one does not; it is named.
    """
    for value in model.inputs:
        array = inputs[value.name or ""]
        for table, first in _tables(value):
            count = int(table.shape[0])  # type: ignore[index, arg-type]
            wrong = (array < first) | (array >= count)
            if wrong.any():
                index = tuple(np.argwhere(wrong)[0])
                raise SignatureError(
                    f"{array[index]} in row {index[0]} is no row of the table '{table.name}', which has {count}",
                    where=value.name,
                    hint=f"its rows are 0 to {count - 1}; padding needs a row of its own",
                )


def _tables(value: ir.Value) -> Iterator[tuple[ir.Value, int]]:
    """The weights whose rows a value looks up, each with the smallest number of a row."""
    for node, place in value.uses():
        if is_op(node, "Identity", "Cast"):
            yield from _tables(node.outputs[0])
        elif is_op(node, "Embedding") and _is_table(node.inputs[1]):
            yield node.inputs[1], 0  # type: ignore[misc]
        elif is_op(node, "Gather") and place == 1 and _is_table(node.inputs[0]) and not _axis(node):
            table = node.inputs[0]
            yield table, 0 if traits.counts_forward(node) else -int(table.shape[0])  # type: ignore


def _is_table(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and value.shape is not None


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() if "axis" in node.attributes else 0


def target_name(arrays: Mapping[str, Any], spec: TrainingSpec, loss: LossPart, used: Collection[str]) -> str:
    """The name of a loss' target in the data: what the loss says, 'label', or what nothing else takes.

    Raises:
        TrainingError: When the data has no such array, or it is not clear which one it is.
    """
    taken = {*used, *(other.sample_weight for other in spec.losses)}
    free = [name for name in arrays if name not in taken]
    name = loss.target or next((each for each in free if each == "label" or len(free) == 1), None)
    if name is None and not free:
        raise TrainingError(
            f"the data has no target beside {_listed(arrays)}", hint="name it 'label', or as loss.target"
        )
    if name is None:
        raise TrainingError(
            f"which of {_listed(free)} is the target is not clear",
            hint="name it 'label', or say loss.target",
        )
    if name not in arrays:
        raise TrainingError(f"the data has no '{name}'", hint=suggest(name, arrays) or f"it has: {_listed(arrays)}")
    return name


def target_of_rows(model: Model, spec: TrainingSpec, loss: LossPart, arrays: Mapping[str, np.ndarray]) -> str:
    """The name of a loss' target among the parts of rows, as :func:`bind` finds it.

    Raises:
        TrainingError: When the rows have nothing for an input, or it is not clear what the target is.
    """
    found = (found_input(model, arrays, value.name or "", spec) for value in model.inputs)
    return target_name(arrays, spec, loss, {name for _, names in found for name in names})


def check_numbers(array: np.ndarray, name: str) -> None:
    """Check that an array holds numbers.

    Raises:
        TrainingError: When it holds something else.
    """
    if array.dtype.kind not in "biuf":
        raise TrainingError(f"'{name}' holds no numbers, it has dtype {array.dtype}")
