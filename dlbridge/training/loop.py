"""Trains a model in a framework: ``train`` runs the epochs, the framework's trainer the steps."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, TrainingError, suggest
from dlbridge.model import Model
from dlbridge.ops import regularization, traits
from dlbridge.processing import Processing
from dlbridge.training import group as groups
from dlbridge.training import resume
from dlbridge.training.data import Source
from dlbridge.training.datasets.opening import Opened, open_data
from dlbridge.training.doubts import warn_of_doubts
from dlbridge.training.formulas import mixed
from dlbridge.training.formulas.optimizer_part import OptimizerPart
from dlbridge.training.preparation import prepared, specification
from dlbridge.training.result import Checkpoint, Result
from dlbridge.training.running import Callback, OwnLoss, Running, check_callbacks, check_own, guarded, listens_to_steps
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.task import Steps

#: What to try when training diverges.
DIVERGED_HINT = "a smaller learning rate often helps; look for extreme numbers in the data"


def train(
    model: Model,
    data: Source,
    *,
    framework: str | None = None,
    spec: TrainingSpec | Mapping[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    validation: Source | None = None,
    device: str | None = None,
    compile: bool = False,
    data_workers: int = 0,
    own_loss: OwnLoss | None = None,
    callbacks: Sequence[Callback] = (),
    warn: bool = True,
) -> Result:
    """Train a model. The initial weights, the batches and the formulas are the same in every framework.

    If the loss or a weight becomes infinite or NaN, training ends: the result is that of the epochs before,
    ``Result.diverged`` says what happened, and there is a warning.

    Args:
        model: The model; it is not changed.
        data: Arrays by name, a ``.npz``, CSV or Parquet file, a data frame, a folder of images, a ``Dataset``, a
            ``DataLoader``, a ``tf.data.Dataset``, a function that returns a generator; see docs/training.md.
        framework: One of ``dlbridge.frameworks.trainers()``; the first that is installed when None.
        spec: How to train, or its settings by name; the model's own specification when None.
        checkpoint: Where to continue, from any framework.
        save: Called after each epoch with a checkpoint.
        progress: Called after each epoch with its number (from 1) and its metrics.
        validation: Data of its own to validate on, in place of ``validation_split``.
        device: Where it is trained: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; the framework's own choice when None.
        compile: Let the framework compile the model: ``torch.compile``, XLA in Keras; Flax NNX always does.
        data_workers: Threads that read data and change images ahead; what they make does not depend on their number.
        own_loss: The function of a loss of your own (``Own``): (output, target) -> a number, as framework tensors.
        callbacks: Called after steps and epochs; see ``dlbridge.training.Callback``.
        warn: Whether there is a warning where training diverges.

    Raises:
        TrainingError: When there is no specification; when the data, the model, the checkpoint or the framework do not
            fit it; when not even the first epoch has a finite loss.
    """
    spec = specification(model, spec)
    trains_in = frameworks.get(framework or frameworks.default_trainer())
    check(model, spec, trains_in)
    check_own(spec, own_loss)
    check_callbacks(callbacks)
    warn_of_doubts(model, spec)
    start = time.perf_counter()
    checkpoint = checkpoint or Checkpoint(0, {})
    resume.check(checkpoint, model, spec)
    _warn_of_an_end(checkpoint, spec)
    opened = open_data(model, spec, data, validation=validation, processing=checkpoint.processing, workers=data_workers)
    trained, task = prepared(model, spec)
    model = model.clone()
    model.processing = opened.processing if opened.processing != Processing() else None
    checkpoint = replace(checkpoint, processing=model.processing)
    if checkpoint.weights:
        trained.set_weights(checkpoint.weights)
    course = _Course(spec, checkpoint, save, progress, callbacks)
    on_step = course.tell_step if listens_to_steps(callbacks) else None
    group = trains_in.group()
    if group is not None:
        groups.check(trained, spec, opened.seen)
        live = trains_in.load(trains_in.write(trained))
        groups.check_rows(lambda inputs: trains_in.run(live, inputs), opened.seen, group.size)
        held_out = None if opened.held_out is None else groups.Shard(opened.held_out, group)
        opened = replace(opened, seen=groups.Shard(opened.seen, group), held_out=held_out)
    task = replace(task, running=Running(device, compile, on_step, guarded(own_loss), group))
    trainer = trains_in.trainer(trained, task, checkpoint=checkpoint)
    finite = {name for name, array in trained.weights.items() if _is_finite(array)}
    interrupted = course.run(trainer, opened, finite)
    reached = course.reached
    result = Result(
        model=_filled(model, spec, reached.weights),
        best=_filled(model, spec, reached.best[1] if reached.best else reached.weights),
        averaged=_filled(model, spec, {**reached.weights, **reached.slots["ema"]}) if "ema" in reached.slots else None,
        history=reached.history,
        checkpoint=reached,
        interrupted=interrupted,
        diverged=course.diverged,
    )
    result.seconds = time.perf_counter() - start
    if warn and result.diverged is not None:
        warnings.warn(f"{result.diverged}; the result is that of the epochs before", RuntimeWarning, stacklevel=2)
    return result


class _Course:
    """Runs the epochs, and keeps the checkpoint of the last good one."""

    def __init__(
        self,
        spec: TrainingSpec,
        reached: Checkpoint,
        save: Callable[[Checkpoint], None] | None,
        progress: Callable[[int, dict[str, float]], None] | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.spec, self.callbacks = spec, callbacks
        #: The checkpoint of the last complete epoch whose numbers are all finite.
        self.reached = reached
        #: What became infinite or NaN, and in which epoch.
        self.diverged: str | None = None
        self._save, self._progress = save, progress
        self._is_stopped = False
        self._batches = 0

    def run(self, trainer: frameworks.Trainer, data: Opened, finite: set[str]) -> bool:
        """Train until the last epoch, Ctrl-C or a divergence, and return whether it was stopped by Ctrl-C.

        Args:
            trainer: What trains.
            data: What it is trained on.
            finite: The weights whose numbers are all finite at the start.
        """
        self.trainer, self._finite = trainer, finite
        self._batches = data.seen.count
        seen, held_out = data.seen, data.held_out
        try:
            while self.reached.epoch < self.spec.epochs and self.diverged is None and not self._is_over():
                steps = Steps(self.spec, self.reached.step, self.reached.epoch, seen.count, self._losses())
                metrics = self.trainer.epoch(seen.epoch(self.reached.epoch, steps))
                if held_out is not None:
                    metrics |= {f"val_{name}": value for name, value in self.trainer.evaluate(held_out).items()}
                self._end_epoch(metrics)
        except KeyboardInterrupt:
            return True
        if self.diverged is not None and self.reached.epoch == 0:
            raise TrainingError(self.diverged, hint=DIVERGED_HINT)
        return False

    def _losses(self) -> list[float]:
        return _losses(self.reached)

    def _is_over(self) -> bool:
        return self._is_stopped or _is_stopped_early(self.spec, self._losses())

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        reached = self._next(metrics)
        self.diverged = self._divergence(reached, metrics)
        if self.diverged is not None:
            return
        self.reached = reached
        if self._save is not None:
            self._save(reached)
        if self._progress is not None:
            self._progress(reached.epoch, metrics)
        for callback in self.callbacks:
            self._is_stopped |= callback.on_epoch(reached, metrics) is True

    def tell_step(self, batch: int, loss: float) -> None:
        """Tell the callbacks of a batch."""
        for callback in self.callbacks:
            callback.on_step(self.reached.epoch + 1, batch, self._batches, loss)

    def _next(self, metrics: dict[str, float]) -> Checkpoint:
        held, slots, step = self.trainer.state()
        weights = {**self.reached.weights, **held}  # what this framework does not hold stays as the other left it
        history = {name: [*self.reached.history.get(name, ()), value] for name, value in metrics.items()}
        value, best = metrics.get("val_loss", metrics["loss"]), self.reached.best
        best = best if best is not None and best[0] <= value else (value, weights)
        return Checkpoint(
            self.reached.epoch + 1, weights, slots, step, history, best, self.spec, self.reached.processing
        )

    def _divergence(self, reached: Checkpoint, metrics: dict[str, float]) -> str | None:
        """What became infinite or NaN in an epoch; None if nothing did."""
        epoch, weights, slots = reached.epoch, reached.weights, reached.slots
        for name in ("loss", "val_loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                return f"the {name} of epoch {epoch} is {metrics[name]}"
        scale = slots.get(mixed.SLOT, {}).get(mixed.SCALE)
        if scale is not None and scale < mixed.SMALLEST_SCALE:
            return f"the gradients of epoch {epoch} are infinite or NaN at any loss scale"
        broken = [name for name in self._finite & weights.keys() if not _is_finite(weights[name])]
        return f"'{min(broken)}' is infinite or NaN after epoch {epoch}" if broken else None


def _losses(checkpoint: Checkpoint) -> list[float]:
    """The losses of the epochs so far: of validation, where there is one."""
    history = checkpoint.history
    return history.get("val_loss", history.get("loss", []))


def _is_stopped_early(spec: TrainingSpec, losses: Sequence[float]) -> bool:
    return spec.early_stopping is not None and spec.early_stopping.is_over(losses)


def _warn_of_an_end(checkpoint: Checkpoint, spec: TrainingSpec) -> None:
    """Warn of a training that goes on where it has ended."""
    begun = f"nothing is left to train: the checkpoint has {checkpoint.epoch} epochs"
    if checkpoint.epoch >= spec.epochs:
        warnings.warn(f"{begun}, and {spec.epochs} are asked", DlbridgeWarning, stacklevel=3)
    elif _is_stopped_early(spec, _losses(checkpoint)):
        warnings.warn(f"{begun}, after which early_stopping ends it", DlbridgeWarning, stacklevel=3)


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu" or bool(np.isfinite(array).all())


def _filled(model: Model, spec: TrainingSpec, weights: Mapping[str, np.ndarray]) -> Model:
    """The model with other weights, and with the specification that they were trained by."""
    copy = model.clone()
    copy.training = spec
    copy.set_weights(weights)
    return copy


def check(model: Model, spec: TrainingSpec, framework: frameworks.Framework) -> None:
    """Check, before anything is done, that a framework can train a model by a specification.

    Raises:
        TrainingError: When it cannot.
    """
    _check_trains(framework, spec)
    _check(model, spec)
    _check_patterns(model, spec.optimizer)
    _check_shared(model)
    regularization.check(model.graph)


def _check_trains(framework: frameworks.Framework, spec: TrainingSpec) -> None:
    """Check that a framework trains by the loss and the optimizer of a specification."""
    others = [repr(name) for name in frameworks.trainers() if name != framework.name]
    hint = f"train in {' or '.join(others)}, then convert the result" if others else None
    if framework.trains is None:
        raise TrainingError(f"{framework.name} does not train", hint=hint)
    trains = framework.trains
    wanted: list[tuple[str, str, Collection[str] | None]] = [("loss", loss.op, trains.losses) for loss in spec.losses]
    wanted += [("optimizer", spec.optimizer.kind, trains.optimizers)]
    wanted += [("precision", spec.precision.kind, trains.precisions)] if spec.precision is not None else []
    for what, name, known in wanted:
        if known is not None and name not in known:
            message = (
                f"{framework.name} does not train by the {what} '{name}'; it knows {', '.join(sorted(known)) or 'none'}"
            )
            raise TrainingError(message, hint=hint)


def _check_patterns(model: Model, optimizer: OptimizerPart) -> None:
    """Refuse names of weights that are those of none: what is asked for them would be left out without a word.

    A pattern of exclusions ('*norm*') may be of no weight, as long as another of them is.

    Raises:
        TrainingError: It names them.
    """
    names = [name for name, value in model.graph.initializers.items() if traits.kind(value) == "parameter"]

    def is_of_none(pattern: str) -> bool:
        return not any(fnmatchcase(name, pattern) for name in names)

    wrong = {"groups": [group.match for group in optimizer.groups if is_of_none(group.match)]}
    for setting in ("no_decay", "by_adamw"):
        patterns = getattr(optimizer, setting, ())
        unused = [pattern for pattern in patterns if is_of_none(pattern)]
        wrong[setting] = [p for p in unused if len(unused) == len(patterns) or not set("*?[") & set(p)]
    for setting, patterns in wrong.items():
        if patterns:
            raise TrainingError(
                f"'{patterns[0]}' in {setting} of the optimizer is the name of no weight",
                where=model.name,
                hint=suggest(patterns[0], names) or f"names: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            )


def _check_shared(model: Model) -> None:
    """Refuse a parameter whose numbers several initializers have: a recurrent layer holds them in another order.

    Raises:
        TrainingError: It names them.
    """
    trained = [(name, v) for name, v in model.graph.initializers.items() if traits.is_trained(v)]
    shared = [name for name, v in trained if traits.has(v, traits.SHARED)]
    if shared:
        raise TrainingError(
            f"{' and '.join(repr(name) for name in shared)} have numbers of one parameter, and would train apart",
            where=model.name,
            hint="a recurrent layer holds its weights in a form of its own: give each layer weights of its own",
        )


def _check(model: Model, spec: TrainingSpec) -> None:
    names = [v.name for v in model.outputs]
    for loss in spec.losses:
        if loss.of is not None and loss.of not in names:
            raise TrainingError(
                f"the loss is of '{loss.of}', which is not an output", where=model.name, hint=f"outputs: {names}"
            )
        if loss.of is None and len(names) > 1:
            raise TrainingError(f"of which output is the loss? There are {names}", where=model.name, hint="say loss.of")
