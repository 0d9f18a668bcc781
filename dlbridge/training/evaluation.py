"""Measures a model on data by the losses and metrics of a specification, and saves its predictions.

The outputs come from any framework that runs models, onnxruntime among them; what is made of them is computed here, in
float64, so that two frameworks that agree in their outputs agree in their numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, MissingKernelError, SignatureError, TrainingError
from dlbridge.files import check_free
from dlbridge.model import Model
from dlbridge.processing import Classes, Image, Processing, add
from dlbridge.runtime.readers import read_batches
from dlbridge.runtime.signature import Port
from dlbridge.runtime.writers import check_suffix, writing_results
from dlbridge.training.data import Batch, Source
from dlbridge.training.datasets.binding import bind_inputs, taken_by_losses
from dlbridge.training.datasets.opening import open_to_measure
from dlbridge.training.datasets.preparing import Preparation
from dlbridge.training.datasets.rows import Arrays
from dlbridge.training.datasets.tables import from_frame, is_frame, read_arrays
from dlbridge.training.doubts import check_probabilities, warn_of_doubts
from dlbridge.training.formulas.numpy_ops import NUMPY
from dlbridge.training.preparation import prepared, specification
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.task import Task

#: The rows that a model is given at a time where nothing says how many.
BATCH_SIZE = 32
Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def evaluate(
    model: Model,
    data: Source,
    *,
    framework: str | None = None,
    spec: TrainingSpec | Mapping[str, Any] | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Measure a model on all rows of data: its loss and its metrics, by the same definitions as in training.

    Args:
        model: The model.
        data: What :func:`dlbridge.training.train` takes.
        framework: What runs it, one of ``dlbridge.frameworks.names()``; onnxruntime when None.
        spec: Its losses and metrics are computed; the model's own specification when None.
        batch_size: The rows at a time; those of the specification when None.

    Returns:
        "loss", "accuracy", ... -> number. The loss is without the penalties on weights that training adds.

    Raises:
        TrainingError: When there is no specification, or the data or the outputs do not fit it.
    """
    if spec is None and model.training is None:
        raise TrainingError(
            "nothing says what to measure: the model has no training specification",
            where=model.name,
            hint="say the loss and the metrics: spec, or --loss and --metric",
        )
    spec = specification(model, spec)
    spec = spec if batch_size is None else spec.model_copy(update={"batch_size": batch_size})
    measured, task = prepared(model, spec)
    dataset = open_to_measure(model, spec, data)
    run = _runner(measured, framework)
    names = [value.name or "" for value in measured.outputs]
    of_losses = [loss.of or model.outputs[0].name or "" for loss in task.losses]
    totals = task.totals()
    for batch in dataset.batches():
        found = run(batch.inputs)
        outputs = [found[name] for name in names]
        for loss, place, name in zip(task.losses, task.outputs, of_losses, strict=True):
            check_probabilities(loss, outputs[place], name)
        value, sums = _measured(task, outputs, batch)
        totals.add(value, sums, batch.rows)
    warn_of_doubts(model, spec)
    return totals.numbers()


def _measured(task: Task, outputs: Sequence[np.ndarray], batch: Batch) -> tuple[float, list[dict[str, Any]]]:
    """The loss of a batch, and the sums of its metrics."""
    wide = [_wide(output) for output in outputs]
    targets = [_wide(target) for target in batch.targets]
    rows = [None if weights is None else _wide(weights) for weights in batch.weights]
    with np.errstate(all="ignore"):  # what becomes infinite or NaN is seen in the numbers
        value = task.loss(wide, targets, rows, NUMPY, lambda loss: None)
        return float(value), task.sums(wide, targets, NUMPY)


def _wide(array: np.ndarray) -> np.ndarray:
    """Floats of any width in float64; integers as they are."""
    return array if array.dtype.kind in "biu" else array.astype(np.float64)


def predict(
    model: Model, data: Any, *, framework: str | None = None, batch_size: int = BATCH_SIZE
) -> dict[str, np.ndarray]:
    """Predict: run a model on all rows of data.

    Args:
        model: The model.
        data: Arrays by input name, a data frame, or a ``.npz``, ``.npy``, CSV or Parquet file, or images; targets are
            not needed.
        framework: What runs it, one of ``dlbridge.frameworks.names()``; onnxruntime when None.
        batch_size: The rows at a time.

    Returns:
        Output name -> array.

    Raises:
        TrainingError: When the data has nothing for an input.
        SignatureError: When the data do not fit the model.
        FileError: When a file is missing or broken.
    """
    parts = list(_outputs(model, data, framework, batch_size))
    if not parts:
        raise TrainingError("the data has no rows")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predict_to_file(
    model: Model,
    data: Any,
    output: str | os.PathLike[str],
    *,
    framework: str | None = None,
    batch_size: int = BATCH_SIZE,
    force: bool = False,
) -> int:
    """Write a model's predictions into a file, batch by batch, and return the number of rows.

    Args:
        model: The model.
        data: See :func:`predict`.
        output: A ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` file.
        framework: What runs it; onnxruntime when None.
        batch_size: The rows at a time.
        force: Replace ``output``.

    Raises:
        FileError: When ``output`` exists, or is of no kind that is written; see also :func:`predict`.
    """
    ports = _ports(_whole(model).outputs)
    check_free(output, force=force)
    check_suffix(output, ports)
    rows = 0
    with writing_results(output, ports, force=force) as append:
        for part in _outputs(model, data, framework, batch_size):
            append(part)
            rows += len(part[ports[0].name])
    return rows


def _outputs(model: Model, data: Any, framework: str | None, batch_size: int) -> Iterator[Arrays]:
    run, classes = _runner(model, framework), _classes(model)
    for arrays in input_batches(model, data, batch_size):
        count = len(next(iter(arrays.values())))
        found = run(arrays)
        for name, array in found.items():
            if array.ndim == 0 or len(array) != count:
                raise TrainingError(
                    f"the output '{name}' has no row for each of the {count} rows of a batch: shape {array.shape}",
                    where=model.name,
                )
        for after in classes:
            found |= after(found)
        yield found


def input_batches(model: Model, data: Any, batch_size: int) -> Iterator[Arrays]:
    """The inputs of one batch after the other, as the model takes them."""
    if batch_size < 1:
        raise SignatureError(f"a batch of {batch_size} rows is none", where=model.name)
    processing = model.processing or Processing()
    before = Preparation(model, processing)
    if isinstance(data, (str, os.PathLike)):
        data = [data]
    if isinstance(data, list):
        has_images = any(isinstance(spec, Image) for spec in processing.inputs.values())
        beside = taken_by_losses(model.training)
        for batch in read_batches(data, _ports(_whole(model).inputs), 1 if has_images else batch_size, beside):
            yield bind_inputs(model, batch, before)
        return
    given = from_frame(data) if is_frame(data) else read_arrays(data)
    arrays = bind_inputs(model, given, before)
    rows = len(next(iter(arrays.values())))
    for start in range(0, rows, batch_size):
        yield {name: array[start : start + batch_size] for name, array in arrays.items()}


def _whole(model: Model) -> Model:
    """The model with its preprocessing and postprocessing, whose inputs and outputs are those of the data."""
    return model if model.processing is None else add(model, model.processing)


def _classes(model: Model) -> list[Callable[[Mapping[str, np.ndarray]], Arrays]]:
    """A function from outputs to the names of the best classes, as in the exported model."""
    processing = model.processing or Processing()
    return [
        _named(value, processing.outputs[value.name])
        for value in model.outputs
        if value.name is not None and value.name in processing.outputs
    ]


def _named(value: ir.Value, spec: Classes) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    name = value.name or ""
    scores = ir.Value(name=f"{name}_given", type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    same = ir.node("Identity", [scores])
    (made,) = same.outputs
    made.name, made.type, made.shape = name, scores.type, scores.shape
    whole = add(Model.build("classes", [scores], [made], [same]), Processing(outputs={name: spec}))
    standard = frameworks.get(frameworks.STANDARD)
    live = standard.load(standard.write(whole))

    def best(outputs: Mapping[str, np.ndarray]) -> Arrays:
        found = standard.run(live, {f"{name}_given": outputs[name].astype(np.float32)})
        return {key: array for key, array in found.items() if key != name}

    return best


def _runner(model: Model, framework: str | None) -> Run:
    runs_in = frameworks.get(framework or frameworks.STANDARD)
    others = " or ".join(repr(name) for name in frameworks.trainers() if name != runs_in.name)
    hint = f"run it in {others}" if others else None
    try:
        live = runs_in.load(runs_in.write(model))
    except MissingKernelError as error:
        raise TrainingError(error.message, where=model.name, hint=hint) from error

    def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return runs_in.run(live, arrays)
        except DlbridgeError:
            raise
        except Exception as error:  # what frameworks raise has no base class in common
            raise TrainingError(f"{runs_in.name} cannot run the model: {error}", where=model.name, hint=hint) from error

    return run


def _ports(values: Sequence[Any]) -> list[Port]:
    return [
        Port(v.name or "", v.dtype.numpy(), tuple(s if isinstance(s, int) else s.value for s in v.shape or ()))
        for v in values
    ]
