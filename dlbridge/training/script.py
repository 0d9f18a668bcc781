"""Writes a training as a script that needs the framework alone: what a tutorial of the framework shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.files import writing
from dlbridge.model import Model
from dlbridge.ops import in_training, regularization
from dlbridge.ops.keys import is_op
from dlbridge.training import script_images
from dlbridge.training.data import Dataset
from dlbridge.training.datasets.opening import Data, Opened, open_data
from dlbridge.training.datasets.pictures import is_image_folder
from dlbridge.training.datasets.rows import Part
from dlbridge.training.datasets.tables import read_arrays
from dlbridge.training.doubts import warn_of_doubts
from dlbridge.training.loop import check
from dlbridge.training.preparation import prepared, specification
from dlbridge.training.script_images import Images
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.task import Task

SCRIPT = "train.py"
#: Settings that no script has.
_REFUSED = ("schedule", "ema", "l1", "l2", "early_stopping")
_METRICS = ("accuracy", "mean_absolute_error", "mean_squared_error")


@dataclass(frozen=True)
class Column:
    """An array of the data.

    Attributes:
        name: Its name in the file.
        dtype: The NumPy dtype that the model takes it in.
        shape: The shape of a row, where it is another one in the file; else None.
        row: The shape of a row.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    row: tuple[int, ...]


@dataclass(frozen=True)
class Script:
    """The data of a script, as the script names it.

    Attributes:
        data: The path of the ``.npz`` file or of the folder of images, from the folder of the script.
        inputs: The inputs, in the model's order.
        target: The target.
        kept: The number of rows to train on, where the others validate; else None.
        share: The share that validates, where it is the last rows of every class; else None.
        classes: The names of the classes in the order of their numbers, where the target is texts; else None.
        standardized: The inputs of which each column is standardized by the rows that are trained on.
        is_random: Whether the model draws random numbers in training.
        images: How images become the input, where the training prepares or changes them; else None.
    """

    data: str
    inputs: tuple[Column, ...]
    target: Column
    kept: int | None
    share: float | None
    classes: tuple[str, ...] | None
    standardized: tuple[str, ...]
    is_random: bool
    images: Images | None = None


def emit(
    model: Model,
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    framework: str | None = None,
    spec: TrainingSpec | Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write ``train.py`` and the weights to start from into a folder, and return the script's path.

    The script trains as :func:`dlbridge.training.train` does: by the same formulas, from the same weights, on the same
    batches. Where a class of the framework departs from the formula, the script says so.

    Raises:
        TrainingError: When the specification has what such a script has no words for; it is named.
        FileError: When the folder exists and ``force`` is not set.
    """
    spec = specification(model, spec)
    writes = frameworks.get(framework or frameworks.default_trainer())
    check(model, spec, writes)
    _check_words(model, spec)
    warn_of_doubts(model, spec)
    if Path(data).suffix.lower() != ".npz" and not is_image_folder(Path(data)):
        raise TrainingError(
            "a script reads .npz files and folders of images", where=str(data), hint="numpy.savez writes one"
        )
    opened = open_data(model, spec, data)
    prepared(model, spec)  # what has no half type is refused as in a training
    trained, task = prepared(model, spec.model_copy(update={"precision": None}))
    _check_returned(model, task)
    task = replace(task, spec=spec)
    source = writes.write(trained)
    text = writes.training_script(source, task, _described(model, spec, opened, Path(data), Path(folder)))
    with writing(Path(folder), force=force) as fresh:
        fresh.mkdir()
        (fresh / SCRIPT).write_text(text, encoding="utf-8")
        writes.save_weights(source, fresh)
    return Path(folder) / SCRIPT


def _check_words(model: Model, spec: TrainingSpec) -> None:
    """Refuse a training with settings that a script cannot express; the error names all of them.

    Raises:
        TrainingError: When there is any.
    """
    found = [*_unsaid(model, spec), *script_images.unsaid(model, spec)]
    if found:
        raise TrainingError(
            f"a script has no words for {', '.join(found)}", where=model.name, hint="dlbridge train has them"
        )


def _unsaid(model: Model, spec: TrainingSpec) -> Iterator[str]:
    yield from (name for name in _REFUSED if getattr(spec, name))
    yield from (name for name in ("groups", "no_decay") if getattr(spec.optimizer, name))
    if len(spec.losses) > 1:
        yield "several losses"
    if spec.accumulate > 1:
        yield "accumulate"
    if any(loss.sample_weight for loss in spec.losses):
        yield "sample_weight"
    if spec.precision is not None and not _is_halved_alike(model):
        yield "precision of recurrent layers and of graphs within nodes, which frameworks compute in halves"
    for metric in spec.metrics:
        if metric.kind not in _METRICS or metric.of is not None:
            yield metric.name
    weights = model.graph.initializers.values()
    if any(regularization.penalty(weight) or regularization.limit(weight) for weight in weights):
        yield "the regularizers and constraints of its weights"


def _check_returned(model: Model, task: Task) -> None:
    """Refuse metrics of numbers that a script's model does not return: it ends in logits, as its loss wants them.

    Raises:
        TrainingError: When there is any.
    """
    for metric, place in task.metrics:
        if metric.of_returned and task.endings[place] is not None:
            ending = task.endings[place]
            raise TrainingError(
                f"a script has no words for {metric.name} of what a {ending} returns: its model ends in logits",
                where=model.name,
                hint="leave out the metric, or use dlbridge train",
            )


def _is_halved_alike(model: Model) -> bool:
    """Whether a framework's own mixed precision computes in halves what ``dlbridge.passes.mixed`` does."""
    nodes = list(model.graph)
    has_graphs = any(True for _ in model.graph.subgraphs())
    return not has_graphs and not any(is_op(node, "RNN", "GRU", "LSTM") for node in nodes)


def _described(model: Model, spec: TrainingSpec, opened: Opened, data: Path, folder: Path) -> Script:
    batch = opened.seen.only_batch if isinstance(opened.seen, Dataset) else next(iter(opened.seen.batches()))
    is_folder = is_image_folder(data)
    arrays = {} if is_folder else read_arrays(data)
    target = spec.losses[0].target or "label" if is_folder else opened.seen.names[0]

    def column(name: str, bound: np.ndarray) -> Column:
        if name not in arrays and not is_folder:
            raise TrainingError(f"a script takes '{name}' as one array of the data", where=str(data))
        row = tuple(int(size) for size in bound.shape[1:])
        same = row == (() if is_folder else arrays[name].shape[1:])
        return Column(name, str(bound.dtype), None if same else row, row)

    inputs = tuple(column(str(v.name), batch.inputs[str(v.name)]) for v in model.inputs)
    raw = None if is_folder else arrays[inputs[0].name]
    if raw is not None and raw.dtype == object:
        raise TrainingError("a script takes images of one size from an array", where=str(data))
    kept = share = classes = None
    if opened.held_out is not None:
        kept = _rows(opened.seen)
        is_stratified = is_folder if spec.stratify is None else spec.stratify
        share = spec.validation_split if is_stratified else None
    if is_folder or arrays[target].dtype.kind in "UO":
        classes = next((output.labels for output in opened.processing.outputs.values()), None)
    return Script(
        data=os.path.relpath(data, folder),
        inputs=inputs,
        target=column(target, batch.targets[0]),
        kept=kept,
        share=share,
        classes=classes,
        standardized=tuple(name for name, how in opened.processing.inputs.items() if how.kind == "standardized"),
        is_random=any(map(in_training.draws, model.graph.all_nodes())),
        images=script_images.described(model, spec, opened.processing, raw, inputs[0].row),
    )


def _rows(data: Data) -> int:
    """The number of rows that are trained on."""
    if isinstance(data, Dataset):
        return data.rows
    assert isinstance(data.source, Part)  # files in a folder
    return len(data.source)
