"""``train``: a model, data and a specification go to a framework; the trained model comes back, and into a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops.keys import op_key
from dlbridge.training.data import Dataset, bind
from dlbridge.training.result import Checkpoint, Result
from dlbridge.training.spec import TrainingSpec

Source = Mapping[str, Any] | str | os.PathLike[str]


def train(
    model: Model,
    data: Source,
    *,
    framework: str = "pytorch",
    spec: TrainingSpec | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Result:
    """Train a model. The weights, the batches and the formulas are the same in every framework.

    Args:
        model: It is not changed.
        data: Arrays by name, or a ``.npz``, CSV or Parquet file.
        framework: ``"pytorch"`` or ``"keras"``.
        spec: The model's own when None.
        checkpoint: Where to go on from, of either framework.
        progress: Called after each epoch with its number (from 1) and its metrics.

    Raises:
        TrainingError: When there is no specification, or data and model do not fit it.
    """
    spec = spec or model.training
    if spec is None:
        raise TrainingError("the model has no training specification", where=model.name)
    _check(model, spec)
    start = time.perf_counter()
    dataset = bind(model, spec, data)
    trained, from_logits = _with_logits(model, spec)
    checkpoint = checkpoint or Checkpoint(0, {})
    if checkpoint.weights:
        trained.set_weights(checkpoint.weights)
    trainer = frameworks.get(framework).trainer(trained, spec, from_logits=from_logits, checkpoint=checkpoint)
    reached, interrupted = _run(trainer, dataset, spec, checkpoint, progress)
    result = Result(
        model=_filled(model, reached.weights),
        best=_filled(model, reached.best[1] if reached.best else reached.weights),
        history=reached.history,
        checkpoint=reached,
        interrupted=interrupted,
    )
    result.seconds = time.perf_counter() - start
    return result


def _run(
    trainer: frameworks.Trainer,
    data: Dataset,
    spec: TrainingSpec,
    reached: Checkpoint,
    progress: Callable[[int, dict[str, float]], None] | None,
) -> tuple[Checkpoint, bool]:
    """Train epoch by epoch; the last whole epoch, and whether it was stopped there by Ctrl-C."""
    seen, held_out = data.split()
    try:
        for epoch in range(reached.epoch, spec.epochs):
            metrics = trainer.epoch(seen.epoch(epoch))
            if held_out is not None:
                metrics |= {f"val_{name}": value for name, value in trainer.evaluate(held_out).items()}
            reached = _next(reached, trainer, metrics)
            if progress is not None:
                progress(reached.epoch, metrics)
    except KeyboardInterrupt:
        return reached, True
    return reached, False


def _next(reached: Checkpoint, trainer: frameworks.Trainer, metrics: dict[str, float]) -> Checkpoint:
    weights, slots, step = trainer.state()
    history = {name: [*reached.history.get(name, ()), value] for name, value in metrics.items()}
    value = metrics.get("val_loss", metrics["loss"])
    best = reached.best if reached.best is not None and reached.best[0] <= value else (value, weights)
    return Checkpoint(reached.epoch + 1, weights, slots, step, history, best)


def _filled(model: Model, weights: Mapping[str, np.ndarray]) -> Model:
    copy = model.clone()
    copy.set_weights(weights)
    return copy


#: Loss from probabilities -> the op that makes these, whose input are the logits.
_ENDINGS = {
    "SparseCategoricalCrossentropy": "Softmax",
    "CategoricalCrossentropy": "Softmax",
    "BinaryCrossentropy": "Sigmoid",
}


def _with_logits(model: Model, spec: TrainingSpec) -> tuple[Model, bool]:
    """The model as it is trained: with the one output that the loss reads, before its Softmax or Sigmoid if it has one.

    Cross-entropy of logits is exact where that of probabilities overflows; it is the same number elsewhere.
    """
    copy = model.clone()
    copy.training = None  # its outputs are no longer those that the specification names
    graph = copy.graph
    output = next(v for v in graph.outputs if spec.loss.of in (None, v.name))
    graph.outputs[:] = [output]
    node = output.producer()
    ending = _ENDINGS.get(spec.loss.op)
    from_logits = ending is None or bool(getattr(spec.loss, "from_logits", False))
    if from_logits or node is None or op_key(node) != ending or not _is_last_axis(node):
        return copy, from_logits
    logits = node.inputs[0]
    assert logits is not None
    graph.outputs[:] = [logits]
    if not output.uses():
        graph.remove(node, safe=True)
    return copy, True


def _is_last_axis(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    return axis == -1 or (shape is not None and axis == len(shape) - 1)


def _check(model: Model, spec: TrainingSpec) -> None:
    names = [v.name for v in model.outputs]
    if spec.loss.of is not None and spec.loss.of not in names:
        raise TrainingError(
            f"the loss is of '{spec.loss.of}', which is no output", where=model.name, hint=f"outputs: {names}"
        )
    if spec.loss.of is None and len(names) > 1:
        raise TrainingError(f"of which output is the loss? There are {names}", where=model.name, hint="say loss.of")
