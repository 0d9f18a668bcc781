"""Trains a model in a framework: ``train`` runs the epochs, the framework's trainer the steps."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops import regularization
from dlbridge.ops.keys import op_key
from dlbridge.training import resume
from dlbridge.training.data import Dataset, bind
from dlbridge.training.result import Checkpoint, Result
from dlbridge.training.spec import TrainingSpec

#: What to try when training diverges.
DIVERGED_HINT = "a smaller learning rate often helps; look for extreme numbers in the data"
Source = Mapping[str, Any] | str | os.PathLike[str]


def train(
    model: Model,
    data: Source,
    *,
    framework: str | None = None,
    spec: TrainingSpec | None = None,
    checkpoint: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Result:
    """Train a model. The initial weights, the batches and the formulas are the same in every framework.

    If the loss or a weight becomes infinite or NaN, training ends: the result is that of the epochs before,
    ``Result.diverged`` says what happened, and there is a warning.

    Args:
        model: The model; it is not changed.
        data: Arrays by name, or a ``.npz``, CSV or Parquet file.
        framework: One of ``dlbridge.frameworks.trainers()``; the first that is installed when None.
        spec: How to train; the model's own specification when None.
        checkpoint: Where to continue, from any framework.
        save: Called after each epoch with a checkpoint.
        progress: Called after each epoch with its number (from 1) and its metrics.

    Raises:
        TrainingError: When there is no specification; when the data, the model, the checkpoint or the framework do not
            fit it; when not even the first epoch has a finite loss.
    """
    result = fit(model, data, framework=framework, spec=spec, checkpoint=checkpoint, save=save, progress=progress)
    if result.diverged is not None:
        warnings.warn(f"{result.diverged}; the result is that of the epochs before", RuntimeWarning, stacklevel=2)
    return result


def fit(
    model: Model,
    data: Source,
    *,
    framework: str | None,
    spec: TrainingSpec | None,
    checkpoint: Checkpoint | None,
    save: Callable[[Checkpoint], None] | None,
    progress: Callable[[int, dict[str, float]], None] | None,
) -> Result:
    """Train without a warning when training diverges: the caller reports it."""
    spec = spec or model.training
    if spec is None:
        raise TrainingError("the model has no training specification", where=model.name)
    trains_in = frameworks.get(framework or frameworks.default_trainer())
    _check_trains(trains_in, spec)
    _check(model, spec)
    regularization.check(model.graph)
    start = time.perf_counter()
    dataset = bind(model, spec, data)
    trained, from_logits = _with_logits(model, spec)
    checkpoint = checkpoint or Checkpoint(0, {})
    resume.check(checkpoint, model, spec)
    if checkpoint.weights:
        trained.set_weights(checkpoint.weights)
    trainer = trains_in.trainer(trained, spec, from_logits=from_logits, checkpoint=checkpoint)
    finite = {name for name, array in trained.weights.items() if _is_finite(array)}
    course = _Course(trainer, spec, checkpoint, finite, save, progress)
    interrupted = course.run(dataset)
    reached = course.reached
    result = Result(
        model=_filled(model, reached.weights),
        best=_filled(model, reached.best[1] if reached.best else reached.weights),
        history=reached.history,
        checkpoint=reached,
        interrupted=interrupted,
        diverged=course.diverged,
    )
    result.seconds = time.perf_counter() - start
    return result


class _Course:
    """Runs the epochs, and keeps the checkpoint of the last good one."""

    def __init__(
        self,
        trainer: frameworks.Trainer,
        spec: TrainingSpec,
        reached: Checkpoint,
        finite: set[str],
        save: Callable[[Checkpoint], None] | None,
        progress: Callable[[int, dict[str, float]], None] | None,
    ) -> None:
        self.trainer, self.spec = trainer, spec
        #: The checkpoint of the last complete epoch whose numbers are all finite.
        self.reached = reached
        #: What became infinite or NaN, and in which epoch.
        self.diverged: str | None = None
        self._finite, self._save, self._progress = finite, save, progress

    def run(self, data: Dataset) -> bool:
        """Train until the last epoch, Ctrl-C or a divergence, and return whether it was stopped by Ctrl-C."""
        seen, held_out = data.split()
        try:
            while self.reached.epoch < self.spec.epochs and self.diverged is None:
                metrics = self.trainer.epoch(seen.epoch(self.reached.epoch))
                if held_out is not None:
                    metrics |= {f"val_{name}": value for name, value in self.trainer.evaluate(held_out).items()}
                self._end_epoch(metrics)
        except KeyboardInterrupt:
            return True
        if self.diverged is not None and self.reached.epoch == 0:
            raise TrainingError(self.diverged, hint=DIVERGED_HINT)
        return False

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        reached = self._next(metrics)
        self.diverged = self._divergence(reached.epoch, metrics, reached.weights)
        if self.diverged is not None:
            return
        self.reached = reached
        if self._save is not None:
            self._save(reached)
        if self._progress is not None:
            self._progress(reached.epoch, metrics)

    def _next(self, metrics: dict[str, float]) -> Checkpoint:
        weights, slots, step = self.trainer.state()
        history = {name: [*self.reached.history.get(name, ()), value] for name, value in metrics.items()}
        value, best = metrics.get("val_loss", metrics["loss"]), self.reached.best
        best = best if best is not None and best[0] <= value else (value, weights)
        return Checkpoint(self.reached.epoch + 1, weights, slots, step, history, best, self.spec)

    def _divergence(self, epoch: int, metrics: dict[str, float], weights: Mapping[str, np.ndarray]) -> str | None:
        """What became infinite or NaN in an epoch; None if nothing did."""
        for name in ("loss", "val_loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                return f"the {name} of epoch {epoch} is {metrics[name]}"
        broken = [name for name in self._finite & weights.keys() if not _is_finite(weights[name])]
        return f"'{min(broken)}' is infinite or NaN after epoch {epoch}" if broken else None


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu" or bool(np.isfinite(array).all())


def _filled(model: Model, weights: Mapping[str, np.ndarray]) -> Model:
    copy = model.clone()
    copy.set_weights(weights)
    return copy


#: Loss of probabilities -> the op that computes probabilities from logits.
_ENDINGS = {
    "SparseCategoricalCrossentropy": "Softmax",
    "CategoricalCrossentropy": "Softmax",
    "BinaryCrossentropy": "Sigmoid",
}


def _with_logits(model: Model, spec: TrainingSpec) -> tuple[Model, bool]:
    """The model to train, and whether its output is logits.

    Its only output is the one that the loss reads, without its final Softmax or Sigmoid: the cross-entropy of logits is
    exact where that of probabilities overflows, and the same number elsewhere.
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


def _check_trains(framework: frameworks.Framework, spec: TrainingSpec) -> None:
    """Check that a framework trains by the loss and the optimizer of a specification."""
    others = [repr(name) for name in frameworks.trainers() if name != framework.name]
    hint = f"train in {' or '.join(others)}, then convert the result" if others else None
    if framework.trains is None:
        raise TrainingError(f"{framework.name} does not train", hint=hint)
    losses, optimizers = framework.trains.losses, framework.trains.optimizers
    for what, wanted, known in (("loss", spec.loss.op, losses), ("optimizer", spec.optimizer.kind, optimizers)):
        if known is not None and wanted not in known:
            message = f"{framework.name} does not train by the {what} '{wanted}'; it knows {', '.join(sorted(known))}"
            raise TrainingError(message, hint=hint)


def _check(model: Model, spec: TrainingSpec) -> None:
    names = [v.name for v in model.outputs]
    if spec.loss.of is not None and spec.loss.of not in names:
        raise TrainingError(
            f"the loss is of '{spec.loss.of}', which is not an output", where=model.name, hint=f"outputs: {names}"
        )
    if spec.loss.of is None and len(names) > 1:
        raise TrainingError(f"of which output is the loss? There are {names}", where=model.name, hint="say loss.of")
